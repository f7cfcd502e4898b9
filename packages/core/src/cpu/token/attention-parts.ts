import type { ModelConfig } from "../../model/config.ts";
import { turnRows } from "../../positions/rotation.ts";
import type { AttentionMass } from "../state/attention-mass.ts";
import type { SharedRows } from "../state/cache-buffer.ts";
import type { LayerState } from "../state/layer-state.ts";
import { SharedScratch, type Floats } from "../wasm/kernel-threads.ts";
import type { Dense } from "./dense.ts";
import { headLists, TokenLists, type HeadLists } from "./token-lists.ts";
import type { TokenBranch, TokenPlan } from "./token-plan.ts";
import { TURNED_BLOCK, TurnedBlocks, type Stretch } from "./turned-blocks.ts";

/** Rows of scores have a multiple of so many floats, since the softmax takes four vectors of four at a time. */
const STRIDE = 16;
/** Bytes of scratch memory for the i16 weights of a block of `mixCompact`, rounded up. */
const WEIGHTS = 544;
/** Slots of a part: short enough to give all threads some, long enough to be worth joining. */
const LONGEST_PART = 1024;
const SHORTEST_PART = 64;
/** Fields of `Part` and of `Attention` in kernels/src/attention.ts, four bytes each. */
const PART_NUMBERS = 17;
const JOB_NUMBERS = 6;
const [PART_SCORES, PART_OUTPUTS, PART_SUMS, PART_MAXIMA, PART_UNITS] = [8, 11, 12, 13, 16];
/** Numbers of `Lists` in kernels/src/lists.ts. */
const LISTS_NUMBERS = 7;
/** Keys that kernels/src/turned.ts turns at once. */
const TURNED_KEYS = 4;

const PLACES = [
  "job",
  "queries",
  "codes",
  "factors",
  "weights",
  "outputs",
  "sums",
  "maxima",
  "scores",
  "turned",
] as const;

/** The keys that some lanes read: a copy under their rotation, or raw keys that the kernels turn. */
export interface LaneKeys {
  readonly rows: SharedRows;
  readonly raw: boolean;
}

/** Divides the attention of one token into parts, a stretch of slots of one key head each, which threads compute. */
export class AttentionParts {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #compact: boolean;
  readonly #blocks: TurnedBlocks;
  readonly #scratch: SharedScratch;
  readonly #found: TokenLists;
  readonly #branch: TokenLists;
  readonly #branchScratch: SharedScratch;
  /** What the last token's parts were, from which masses are read and the gated branch has its queries. */
  #last: { readonly stretches: readonly Stretch[]; readonly parts: number; readonly layout: Layout } | null = null;

  constructor(config: ModelConfig, dense: Dense, compact: boolean) {
    this.#config = config;
    this.#dense = dense;
    this.#compact = compact;
    this.#scratch = new SharedScratch(dense.memory);
    this.#found = new TokenLists(config, dense, compact);
    this.#branch = new TokenLists(config, dense, compact);
    this.#branchScratch = new SharedScratch(dense.memory);
    this.#blocks = new TurnedBlocks(dense.memory, config.rope.rotarySize / 2);
  }

  /** Writes `attended` [H, D]; `keys` are by `TokenLane.keys`, and the rows of two heads are `slots` apart. */
  attend(
    slots: number,
    plan: TokenPlan,
    keys: ReadonlyMap<string, LaneKeys>,
    values: SharedRows,
    projected: Float32Array,
    attended: Floats,
    layer: LayerState,
  ): void {
    const { queryHeads, keyHeads, headSize, rope } = this.#config;
    const { functions, memory } = this.#dense;
    const group = queryHeads / keyHeads;
    const stretches = this.#stretches(plan);
    const found = plan.found.length > 0 ? headLists(plan.found, plan.token, queryHeads) : null;
    // What heads have found for themselves is one more part of each key head, whose units write what a part does.
    const parts = stretches.length + (found ? 1 : 0);
    const layout = this.#layOut(plan, stretches, parts, found?.longest ?? 0);
    this.#last = { stretches, parts, layout };
    this.#queries(plan, projected, layout);
    if (parts === 0) return void attended.data.fill(0);
    const blocks = this.#blocks.place(
      plan,
      stretches,
      new Set([...keys].filter(([, { raw }]) => raw).map(([id]) => id)),
    );
    const count = keyHeads * parts;
    const units = found && this.#placeFound(found, layout, parts, layer);
    const [valueRows, valueScales = 0] = addresses(values);
    const table = new Int32Array(memory.memory.buffer, layout.job, JOB_NUMBERS + PART_NUMBERS * count);
    table.set([layout.job + 4 * JOB_NUMBERS, group, headSize, 0, rope.rotarySize / 2, TURNED_BLOCK]);
    new Float32Array(memory.memory.buffer, layout.job + 12, 1)[0] = 1 / Math.sqrt(headSize);
    let at = JOB_NUMBERS;
    for (let head = 0; head < keyHeads; head++) {
      for (let i = 0; i < stretches.length; i++) {
        const { lane, skipped, count: width } = stretches[i];
        const number = head * parts + i;
        const { rows, raw } = keys.get(lane.keys)!;
        const [keyRows, keyScales = 0] = addresses(rows);
        const from = lane.from + skipped;
        const row = head * slots + from;
        const valueRow = head * slots;
        const query = (raw ? plan.turns.length : lane.rotation) * queryHeads + head * group;
        const coded = this.#compact && !raw;
        table[at++] = (coded ? layout.codes : layout.queries) + query * headSize * (coded ? 2 : 4);
        table[at++] = layout.factors + 4 * query;
        table[at++] = keyRows + row * headSize * (this.#compact ? 1 : 4);
        table[at++] = this.#compact ? keyScales + 4 * row : 0;
        table[at++] = valueRows + (this.#compact ? valueRow * headSize : 4 * (valueRow + from) * headSize);
        table[at++] = this.#compact ? valueScales + 4 * valueRow : 0;
        table[at++] = from;
        table[at++] = width;
        table[at++] = layout.scores + 4 * number * group * layout.stride;
        table[at++] = layout.stride;
        table[at++] = layout.weights + number * WEIGHTS;
        table[at++] = layout.outputs + 4 * number * group * headSize;
        table[at++] = layout.sums + 4 * number * group;
        table[at++] = layout.maxima + 4 * number * group;
        table[at++] = blocks[i];
        table[at++] = layout.turned + 4 * number * (TURNED_KEYS + group) * headSize;
        table[at++] = 0;
      }
      if (!units) continue;
      // Units say themselves where everything is; the part has their scratch memory.
      const number = head * parts + stretches.length;
      table.fill(0, at, at + PART_NUMBERS);
      table[at + PART_SCORES] = layout.scores + 4 * number * group * layout.stride;
      table[at + PART_SUMS] = layout.sums + 4 * number * group;
      table[at + PART_MAXIMA] = layout.maxima + 4 * number * group;
      table[at + PART_OUTPUTS] = layout.outputs + 4 * number * group * headSize;
      table[at + PART_UNITS] = units[head * group];
      at += PART_NUMBERS;
    }
    functions.attend(layout.job, count, parts, attended.address);
  }

  #placeFound(found: HeadLists, layout: Layout, parts: number, layer: LayerState): number[] {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    // Output, sum and maximum of a head in the last part of its key head.
    const place = (head: number) => ((Math.floor(head / group) + 1) * parts - 1) * group + (head % group);
    return this.#found.place(
      found,
      layer,
      {
        query: (rotation, head) => layout.queries + 4 * (rotation * queryHeads + head) * headSize,
        output: (head) => layout.outputs + 4 * place(head) * headSize,
        sum: (head) => layout.sums + 4 * place(head),
        maximum: (head) => layout.maxima + 4 * place(head),
      },
      () => 1 / Math.sqrt(headSize), // queries have the temperature
      false,
    );
  }

  /** Returns the output [H, D] of the second softmax, for the token that was attended to last; zeros for heads that see nothing. */
  attendGated(plan: TokenPlan, { branch, lists }: TokenBranch, layer: number, state: LayerState): Float32Array {
    const { queryHeads, headSize, rope } = this.#config;
    const { functions, memory } = this.#dense;
    const seen = headLists(lists, plan.token, queryHeads);
    const { queries } = this.#last!.layout;
    const stride = Math.ceil((seen.longest + 4) / STRIDE) * STRIDE;
    const base = this.#branchScratch.take(4 * queryHeads * (headSize + 2 + stride + headSize) + 4 * LISTS_NUMBERS);
    const sums = base + 4 * queryHeads * headSize;
    const scratch = sums + 8 * queryHeads;
    const scales = branch.scales?.[layer];
    const [unit] = this.#branch.place(
      seen,
      state,
      {
        query: (rotation, head) => queries + 4 * (rotation * queryHeads + head) * headSize,
        output: (head) => base + 4 * head * headSize,
        sum: (head) => sums + 4 * head,
        maximum: (head) => sums + 4 * (queryHeads + head),
      },
      (head) => (scales ? scales[head] : 1 / Math.sqrt(headSize)),
      scales !== undefined,
    );
    const job = scratch + 4 * queryHeads * (stride + headSize);
    new Int32Array(memory.memory.buffer, job, LISTS_NUMBERS).set([unit, queryHeads, 1, scratch, stride, headSize, rope.rotarySize / 2]); // prettier-ignore
    functions.attendLists(job, queryHeads);
    return memory.floats({ address: base }, queryHeads * headSize);
  }

  /** Adds the probabilities of the last token's lanes to the masses of tokens at distances below `band`. */
  addMasses(plan: TokenPlan, mass: AttentionMass, band: number): void {
    const { queryHeads, keyHeads } = this.#config;
    const { memory } = this.#dense;
    const { stretches, parts, layout } = this.#last!;
    const group = queryHeads / keyHeads;
    const count = keyHeads * parts * group;
    const [sums, maxima] = [layout.sums, layout.maxima].map((address) => memory.floats({ address }, count));
    for (let keyHead = 0; keyHead < keyHeads; keyHead++) {
      for (let i = 0; i < group; i++) {
        const at = (part: number) => (keyHead * parts + part) * group + i;
        let largest = -Infinity;
        for (let part = 0; part < parts; part++) largest = Math.max(largest, maxima[at(part)]);
        let total = 0;
        for (let part = 0; part < parts; part++) total += sums[at(part)] * Math.exp(maxima[at(part)] - largest);
        stretches.forEach((stretch, part) => {
          const factor = Math.exp(maxima[at(part)] - largest) / total;
          const scores = memory.floats({ address: layout.scores + 4 * at(part) * layout.stride }, stretch.count);
          addStretch(mass, keyHead, stretch, scores, factor, { token: plan.token, band });
        });
      }
    }
  }

  /** Cuts the lanes into parts of about equal length, so that threads end at about the same time. */
  #stretches({ lanes, width }: TokenPlan): Stretch[] {
    const even = Math.ceil((width * this.#config.keyHeads) / (4 * this.#dense.threads));
    const longest = Math.min(Math.max(Math.ceil(even / STRIDE) * STRIDE, SHORTEST_PART), LONGEST_PART);
    return lanes.flatMap((lane) => {
      const parts: Stretch[] = [];
      for (let skipped = 0; skipped < lane.count; skipped += longest)
        parts.push({ lane, skipped, count: Math.min(longest, lane.count - skipped) });
      return parts;
    });
  }

  /** Writes the queries [H, D] under each rotation of the plan, and last without rotation, as kernels read them. */
  #queries(
    { turns, temperature, rotations }: TokenPlan,
    projected: Float32Array,
    { queries, codes, factors }: Layout,
  ): void {
    const { queryHeads, headSize } = this.#config;
    const { functions, memory } = this.#dense;
    const size = queryHeads * headSize;
    const data = memory.floats({ address: queries }, (turns.length + 1) * size);
    const raw = projected.subarray(0, size);
    turns.forEach((by, i) => {
      if (!rotations[i].queries) return;
      turnRows(raw, data.subarray(i * size, (i + 1) * size), headSize, by, temperature);
      const [floats, code, factor] = [queries + 4 * i * size, codes + 2 * i * size, factors + 4 * i * queryHeads];
      if (this.#compact) functions.compactQueries(floats, code, factor, queryHeads, headSize);
    });
    turnRows(raw, data.subarray(turns.length * size), headSize, null, temperature);
  }

  /** Lays out the scratch memory, which grows where it has to. */
  #layOut({ turns }: TokenPlan, stretches: readonly Stretch[], parts: number, longestList: number): Layout {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    const count = keyHeads * parts;
    const longest = stretches.reduce((most, stretch) => Math.max(most, stretch.count), longestList);
    const stride = Math.ceil((longest + 3) / STRIDE) * STRIDE;
    let bytes = 0;
    const take = (size: number): number => {
      const at = bytes;
      bytes += Math.ceil(size / 64) * 64;
      return at;
    };
    const layout = {
      job: take(4 * (JOB_NUMBERS + PART_NUMBERS * count)),
      queries: take(4 * (turns.length + 1) * queryHeads * headSize),
      codes: take(2 * turns.length * queryHeads * headSize),
      factors: take(4 * turns.length * queryHeads),
      weights: take(WEIGHTS * count),
      outputs: take(4 * count * group * headSize),
      sums: take(4 * count * group),
      maxima: take(4 * count * group),
      scores: take(4 * count * group * stride + 64),
      turned: take(4 * count * (TURNED_KEYS + group) * headSize),
    };
    const address = this.#scratch.take(bytes);
    for (const name of PLACES) layout[name] += address;
    return { ...layout, stride };
  }
}

/** Addresses in the scratch memory, and the floats from one row of scores to the next. */
type Layout = Readonly<Record<(typeof PLACES)[number] | "stride", number>>;

function addresses({ blocks }: SharedRows): number[] {
  return blocks.map(({ address }) => address);
}

/** Adds the probabilities of a stretch of a lane, of tokens at distances from 0 and below `band`. */
function addStretch(
  mass: AttentionMass,
  head: number,
  { lane, skipped, count }: Stretch,
  scores: Float32Array,
  factor: number,
  { token, band }: { readonly token: number; readonly band: number },
): void {
  const { tokens } = lane;
  if (typeof tokens === "number") {
    const first = tokens + skipped;
    const from = Math.max(0, token - band + 1 - first);
    const to = Math.min(count, token + 1 - first);
    if (from < to) mass.add(first + from, head, scores.subarray(from, to), factor);
    return;
  }
  for (let i = 0; i < count; i++) {
    const distance = token - tokens[skipped + i];
    if (distance >= 0 && distance < band) mass.add(tokens[skipped + i], head, scores.subarray(i, i + 1), factor);
  }
}
