import type { Choice } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { rotation } from "../../positions/rotation.ts";
import type { SlotRun } from "../../state/slots.ts";
import { askedBy } from "../choice/asked.ts";
import type { AskingRows } from "../choice/asking.ts";
import type { RowChooser } from "../choice/choose.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { SharedScratch } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";
import { emptyPart, jobBytes, PartTable } from "./part-table.ts";
import type { SharedCache } from "./shared-cache.ts";

/** Columns of a part, at most and at least: some for all threads, each worth handing over. */
const LONGEST_PART = 4096;
const SHORTEST_PART = 256;
/** Columns of a run begin at a multiple of so many, since kernels write whole fours. */
const STEP = 16;
/** Columns that the kernels of scores take at once. */
const FOUR = 4;
/** Fields of `Nearest` in packages/core/kernels/src/nearest.ts, four bytes each. */
const NEAREST_NUMBERS = 11;
/** A run of slots, whose scores begin at `column`. */
interface Columns extends SlotRun {
  readonly column: number;
}

/** Chooses tokens for a single query: threads score all candidates, then keep the best of each list. */
export class NearestTokens implements RowChooser {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #cache: SharedCache;
  readonly #scratch: SharedScratch;

  constructor(config: ModelConfig, dense: Dense, cache: SharedCache) {
    this.#config = config;
    this.#dense = dense;
    this.#cache = cache;
    this.#scratch = new SharedScratch(dense.memory);
  }

  nearest(choice: Choice, state: CpuState, layer: number, rows: AskingRows): Int32Array[] {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { memory, functions } = this.#dense;
    const asked = askedBy(choice, this.#config, layer, rows);
    const { share = "heads" } = choice;
    /** Rows of scores of a key head, and lists of the choice. */
    const scored = share === "none" ? queryHeads / keyHeads : 1;
    const lists = share === "heads" ? 1 : keyHeads * scored;
    const candidates = rows.candidates(0);
    const most = Math.min(choice.count, candidates);
    const runs = columnsOf(state, layer, choice.from, candidates);
    const last = runs.at(-1);
    if (!last || most === 0) return Array.from({ length: lists }, () => new Int32Array(0));
    const width = last.column + last.to - last.from;
    const stride = Math.ceil((width + 3) / STEP) * STEP;
    const parts = this.#parts(runs);
    const total = keyHeads * scored;
    const place = layOut(this.#scratch, {
      queries: total * headSize,
      codes: (total * headSize) / 2,
      factors: total,
      scores: total * stride,
      norms: choice.scales ? keyHeads * stride : 0,
      limits: total,
      values: lists * most,
      columns: lists * most,
      counts: lists,
      job: jobBytes(keyHeads * parts.length) / 4,
      nearest: NEAREST_NUMBERS,
    });
    const floats = (address: number, size: number) => memory.floats({ address }, size);
    const integers = (address: number, size: number) => new Int32Array(memory.memory.buffer, address, size);
    asked.forEach((values, head) => floats(place.queries, total * headSize).set(values, head * scored * headSize));
    if (this.#cache.compact) functions.compactQueries(place.queries, place.codes, place.factors, total, headSize);
    const { slots, copies } = state.layers[layer];
    const { id } = rotation(choice.table, choice.keyPosition);
    const { buffer } = copies.get(id)!;
    const [keyRows, keyScales = 0] = this.#cache.rows(slots, buffer, "keys").blocks.map(({ address }) => address);

    const table = new PartTable(memory, place.job, keyHeads * parts.length, { heads: scored, size: headSize, scale: 1, pairs: 0, block: 0 }); // prettier-ignore
    const { compact } = this.#cache;
    const part = { ...emptyPart(), stride, heads: scored };
    for (let head = 0; head < keyHeads; head++)
      for (const { from, to, column } of parts) {
        const row = head * buffer.stride + from;
        const query = head * scored * headSize;
        part.queries = compact ? place.codes + 2 * query : place.queries + 4 * query;
        part.factors = place.factors + 4 * head * scored;
        part.keys = keyRows + row * headSize * (compact ? 1 : 4);
        part.keyScales = compact ? keyScales + 4 * row : 0;
        part.count = to - from;
        part.scores = place.scores + 4 * (head * scored * stride + column);
        table.add(part);
      }
    functions.scoreParts(place.job, keyHeads * parts.length);
    // Kernels may have written a few scores behind each run; nobody chooses what is there.
    const scores = floats(place.scores, total * stride);
    for (let row = 0; row < total; row++)
      runs.forEach(({ column, from, to }, i) =>
        scores.fill(-Infinity, row * stride + column + to - from, row * stride + (runs[i + 1]?.column ?? stride)),
      );
    if (share === "heads")
      for (let head = 1; head < keyHeads; head++)
        functions.addTo(place.scores, place.scores + 4 * head * stride, stride);
    integers(place.limits, total).fill(width);
    integers(place.counts, lists).fill(0);
    const norms = choice.scales && state.norms(layer, id);
    const take = (first: number, rowCount: number, factors: number) => {
      integers(place.nearest, NEAREST_NUMBERS).set([
        place.scores + 4 * first * stride,
        stride,
        rowCount,
        place.limits,
        factors,
        0,
        place.values + 4 * first * most,
        place.columns + 4 * first * most,
        place.counts + 4 * first,
        most,
        1,
      ]);
      functions.keepNearest(place.nearest, rowCount);
    };
    if (!norms) take(0, lists, 0);
    else
      for (let head = 0; head < keyHeads; head++) {
        const address = place.norms + 4 * head * stride;
        const to = floats(address, stride);
        for (const { from, to: end, column } of runs)
          to.set(norms.values.subarray(head * norms.stride + from, head * norms.stride + end), column);
        take(head * scored, scored, address);
      }
    functions.sortNearest(place.columns, place.counts, lists, most);
    const kept = integers(place.columns, lists * most);
    const counts = integers(place.counts, lists);
    return Array.from({ length: lists }, (_, list) =>
      kept.slice(list * most, list * most + counts[list]).map((column) => {
        const run = runs.findLast((one) => one.column <= column)!;
        return run.token + column - run.column - choice.from;
      }),
    );
  }

  /**
   * Cuts runs into parts of about equal length, each of whole fours of columns, so that equal keys get equal scores
   * wherever they are: the last part of a run begins a little earlier. Runs of less than four stay as they are.
   */
  #parts(runs: readonly Columns[]): Columns[] {
    const width = runs.reduce((sum, { from, to }) => sum + to - from, 0);
    const even = Math.ceil((width * this.#config.keyHeads) / (4 * this.#dense.threads) / STEP) * STEP;
    const longest = Math.min(Math.max(even, SHORTEST_PART), LONGEST_PART);
    return runs.flatMap((run) => {
      const parts: Columns[] = [];
      const add = (from: number, to: number) => parts.push({ ...run, from, to, column: run.column + from - run.from });
      const whole = run.to - ((run.to - run.from) % FOUR);
      for (let from = run.from; from < whole; from += longest) add(from, Math.min(whole, from + longest));
      if (whole < run.to) add(Math.max(run.from, run.to - FOUR), run.to);
      return parts;
    });
  }
}

function columnsOf(state: CpuState, layer: number, first: number, count: number): Columns[] {
  let column = 0;
  return state.layers[layer].slots.runs(first, first + count).map((run) => {
    const columns = { ...run, column };
    column += Math.ceil((run.to - run.from) / STEP) * STEP;
    return columns;
  });
}

/** Gives each name the address of so many floats. */
function layOut<Name extends string>(
  scratch: SharedScratch,
  sizes: Readonly<Record<Name, number>>,
): Record<Name, number> {
  const entries = Object.entries(sizes) as [Name, number][];
  const bytes = (size: number) => Math.ceil((4 * size) / 64) * 64;
  let address = scratch.take(entries.reduce((sum, [, size]) => sum + bytes(size), 0));
  const places = {} as Record<Name, number>;
  for (const [name, size] of entries) {
    places[name] = address;
    address += bytes(size);
  }
  return places;
}
