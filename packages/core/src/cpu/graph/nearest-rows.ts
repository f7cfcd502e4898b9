import type { Choice } from "../../method/plan.ts";
import { rotation } from "../../positions/rotation.ts";
import { askedBy } from "../choice/asked.ts";
import type { AskingRows } from "../choice/asking.ts";
import { isIndexed, type RowChooser } from "../choice/choose.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { SharedScratch, type KernelThreads } from "../wasm/kernel-threads.ts";
import { Graph, type EncodedGraph } from "./graph.ts";
import { floats, ProgramCache, Scratch, type Feeds } from "./runtime.ts";

/** Columns (tokens or blocks) that are scored at once: their scores stay in the processor's cache. */
const COLUMNS = 1024;
/** Lists that are kept at once, and entries of all of them. */
const MOST_LISTS = 2048;
const MOST_ENTRIES = 2 ** 23;
/** Numbers of `Nearest` in kernels/src/nearest.ts, four bytes each. */
const JOB_NUMBERS = 11;
/** Lists of a part, at least: fewer cost more in handing over than they save. */
const SMALLEST_PART = 16;
const PARTS_A_THREAD = 4;

/** Some consecutive candidates: the first of them, and what they are scored by in a key head. */
interface Columns {
  readonly from: number;
  readonly count: number;
  /** [columns, W] */
  rows(head: number): Float32Array;
  /** What scores are multiplied by, one for each column. */
  factors?(head: number): Float32Array;
}

/** Lists of several rows that are chosen by the same products: sums over some key heads of asked · row. */
interface Batch {
  readonly heads: readonly number[];
  /** For each of these key heads, [rows, lists, W]. */
  readonly asked: readonly Float32Array[];
  /** Lists of a row, and the first of them among all lists of a row. */
  readonly lists: number;
  readonly first: number;
}

/**
 * Chooses for the rows of a chunk: onnxruntime scores a block of candidates at a time, and kernels keep the best of each
 * list, so that there is never a matrix of all scores.
 */
export class NearestRows implements RowChooser {
  readonly #threads: KernelThreads;
  readonly #programs: ProgramCache;
  readonly #scores = new Scratch();
  readonly #kept: SharedScratch;
  readonly #block: SharedScratch;

  constructor(threads: KernelThreads) {
    this.#threads = threads;
    // One graph sums the products of all key heads, the other takes those of one.
    this.#programs = new ProgramCache(2, threads.threads);
    this.#kept = new SharedScratch(threads.memory);
    this.#block = new SharedScratch(threads.memory);
  }

  async nearest(choice: Choice, state: CpuState, layer: number, rows: AskingRows): Promise<Int32Array[]> {
    const { keyHeads, queryHeads } = state.backend.config;
    const asked = askedBy(choice, state.backend.config, layer, rows);
    const all = Array.from({ length: keyHeads }, (_, head) => head);
    const { share = "heads" } = choice;
    const lists = share === "none" ? queryHeads / keyHeads : 1;
    const batches: Batch[] =
      share === "heads"
        ? [{ heads: all, asked, lists, first: 0 }]
        : all.map((head) => ({ heads: [head], asked: [asked[head]], lists, first: head * lists }));
    const candidates = Array.from({ length: rows.count }, (_, row) => rows.candidates(row));
    const columns = columnsOf(choice, state, layer, Math.max(...candidates));
    const perRow = batches.length * lists;
    const chosen: Int32Array[] = Array.from({ length: rows.count * perRow }, () => NOTHING);
    const most = Math.min(choice.count, Math.max(...candidates));
    const atOnce = Math.max(1, Math.floor(Math.min(MOST_LISTS, MOST_ENTRIES / Math.max(1, most)) / lists));
    for (const batch of batches)
      for (let from = 0; from < rows.count; from += atOnce) {
        const some = { from, to: Math.min(rows.count, from + atOnce) };
        const kept = await this.#chooseSome(batch, candidates, some, columns, most);
        kept.forEach((list, i) => {
          chosen[(from + Math.floor(i / lists)) * perRow + batch.first + (i % lists)] = list;
        });
      }
    return chosen;
  }

  /** The lists of rows [from, to), [rows, lists]. */
  async #chooseSome(
    { heads, asked, lists }: Batch,
    candidates: readonly number[],
    { from, to }: { readonly from: number; readonly to: number },
    columns: readonly Columns[],
    most: number,
  ): Promise<Int32Array[]> {
    const { memory, functions, threads } = this.#threads;
    const count = (to - from) * lists;
    const place = this.#kept.take(4 * (2 * count * most + 2 * count + JOB_NUMBERS));
    const [values, kept, counts, limits] = [0, count * most, 2 * count * most, 2 * count * most + count].map((at) => place + 4 * at) as [number, number, number, number]; // prettier-ignore
    const job = limits + 4 * count;
    const views = { counts: this.#integers(counts, count), limits: this.#integers(limits, count), job: this.#integers(job, JOB_NUMBERS) }; // prettier-ignore
    views.counts.fill(0);
    const each = Math.max(SMALLEST_PART, Math.ceil(count / (PARTS_A_THREAD * threads)));
    for (const block of columns) {
      // Candidates do not become fewer from row to row, so that the first rows may have none here.
      let begin = from;
      while (begin < to && candidates[begin] <= block.from) begin++;
      if (begin === to) continue;
      // A product with a single row is computed in another order, so that equal keys would not get equal scores.
      if (to - begin === 1 && begin > from) begin--;
      const some = (to - begin) * lists;
      const scores = this.#scores.take(some * block.count);
      const feeds: Feeds = {};
      heads.forEach((head, i) => {
        const width = asked[i].length / (candidates.length * lists);
        const own = asked[i].subarray(begin * lists * width, to * lists * width);
        feeds[`asked${i}`] = floats(own, some, width);
        feeds[`rows${i}`] = floats(block.rows(head), block.count, width);
      });
      const program = await this.#programs.get(String(heads.length), () => scoresGraph(heads.length));
      await program.run(feeds, { scores: floats(scores, some, block.count) });
      const factors = block.factors?.(heads[0]);
      const shared = this.#block.take(4 * (scores.length + block.count));
      memory.floats({ address: shared }, scores.length).set(scores);
      if (factors) memory.floats({ address: shared + 4 * scores.length }, block.count).set(factors);
      for (let i = 0; i < some; i++)
        views.limits[i] = Math.max(0, Math.min(block.count, candidates[begin + Math.floor(i / lists)] - block.from));
      const skipped = (begin - from) * lists;
      views.job.set([
        shared,
        block.count,
        some,
        limits,
        factors ? shared + 4 * scores.length : 0,
        block.from,
        values + 4 * skipped * most,
        kept + 4 * skipped * most,
        counts + 4 * skipped,
        most,
        each,
      ]);
      functions.keepNearest(job, Math.ceil(some / each));
    }
    functions.sortNearest(kept, counts, count, most);
    const tokens = this.#integers(kept, count * most);
    return Array.from({ length: count }, (_, i) => tokens.slice(i * most, i * most + views.counts[i]));
  }

  #integers(address: number, size: number): Int32Array {
    return new Int32Array(this.#threads.memory.memory.buffer, address, size);
  }

  release(): Promise<void> {
    return this.#programs.release();
  }
}

const NOTHING = new Int32Array(0);

/** What candidates [0, count) are scored by, in blocks: rows of the block index, or keys of single tokens as the ring has them. */
function columnsOf(choice: Choice, state: CpuState, layer: number, count: number): Columns[] {
  const columns: Columns[] = [];
  if (isIndexed(choice)) {
    const index = state.index(layer, choice);
    for (let from = 0; from < count; from += COLUMNS) {
      const to = Math.min(count, from + COLUMNS);
      columns.push({ from, count: to - from, rows: (head) => index.rowsOf(head, from, to) });
    }
    return columns;
  }
  const { slots, copies } = state.layers[layer];
  const { id } = rotation(choice.table, choice.keyPosition);
  const { buffer } = copies.get(id)!;
  const norms = choice.scales && state.norms(layer, id);
  for (const run of slots.runs(choice.from, choice.from + count)) {
    for (let slot = run.from; slot < run.to; slot += COLUMNS) {
      const end = Math.min(run.to, slot + COLUMNS);
      columns.push({
        from: run.token + slot - run.from - choice.from,
        count: end - slot,
        rows: (head) => buffer.view(head, slot, end),
        factors: norms && ((head) => norms.values.subarray(head * norms.stride + slot, head * norms.stride + end)),
      });
    }
  }
  return columns;
}

/** Scores [n, columns]: the sum over key heads of asked [n, W] times rows [columns, W]. */
function scoresGraph(heads: number): EncodedGraph {
  const graph = new Graph();
  const products = Array.from({ length: heads }, (_, i) =>
    graph.op("FusedMatMul", [graph.input(`asked${i}`, 2), graph.input(`rows${i}`, 2)], { ints: { transB: 1 } }),
  );
  graph.op(heads > 1 ? "Sum" : "Identity", products, {}, "scores");
  graph.output("scores");
  return graph.encode();
}
