import type { ModelConfig } from "../../model/config.ts";
import { turnRows } from "../../positions/rotation.ts";
import type { SharedRows } from "../state/cache-buffer.ts";
import type { Dense, Floats } from "./dense.ts";
import type { Block } from "../wasm/shared-memory.ts";
import type { TokenPlan } from "./token-plan.ts";
import { TURNED_BLOCK, TurnedBlocks, type Stretch } from "./turned-blocks.ts";

/** Rows of scores have a multiple of so many floats, since the softmax takes four vectors of four at a time. */
const STRIDE = 16;
/** Bytes of scratch memory for the i16 weights of a block of `mixCompact`, rounded up. */
const WEIGHTS = 544;
/** Slots of a part: short enough to give all threads some, long enough to be worth joining. */
const LONGEST_PART = 1024;
const SHORTEST_PART = 64;
/** Fields of `Part` and of `Attention` in kernels/src/attention.ts, four bytes each. */
const PART_NUMBERS = 16;
const JOB_NUMBERS = 6;
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
  #scratch: Block | null = null;

  constructor(config: ModelConfig, dense: Dense, compact: boolean) {
    this.#config = config;
    this.#dense = dense;
    this.#compact = compact;
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
  ): void {
    const { queryHeads, keyHeads, headSize, rope } = this.#config;
    const { functions, memory } = this.#dense;
    const group = queryHeads / keyHeads;
    const stretches = this.#stretches(plan);
    const layout = this.#layOut(plan, stretches);
    this.#queries(plan, projected, layout);
    const blocks = this.#blocks.place(
      plan,
      stretches,
      new Set([...keys].filter(([, { raw }]) => raw).map(([id]) => id)),
    );
    const count = keyHeads * stretches.length;
    const [valueRows, valueScales = 0] = addresses(values);
    const table = new Int32Array(memory.memory.buffer, layout.job, JOB_NUMBERS + PART_NUMBERS * count);
    table.set([layout.job + 4 * JOB_NUMBERS, group, headSize, 0, rope.rotarySize / 2, TURNED_BLOCK]);
    new Float32Array(memory.memory.buffer, layout.job + 12, 1)[0] = 1 / Math.sqrt(headSize);
    let at = JOB_NUMBERS;
    for (let head = 0; head < keyHeads; head++) {
      for (let i = 0; i < stretches.length; i++) {
        const { lane, skipped, count: width } = stretches[i];
        const number = head * stretches.length + i;
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
      }
    }
    functions.attend(layout.job, count, stretches.length, attended.address);
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
  #layOut({ turns }: TokenPlan, stretches: readonly Stretch[]): Layout {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    const count = keyHeads * stretches.length;
    const longest = stretches.reduce((most, stretch) => Math.max(most, stretch.count), 0);
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
    if (!this.#scratch || this.#scratch.bytes < bytes) {
      if (this.#scratch) this.#dense.memory.release(this.#scratch);
      this.#scratch = this.#dense.memory.allocate(Math.ceil(bytes * 1.5));
    }
    const { address } = this.#scratch;
    for (const name of PLACES) layout[name] += address;
    return { ...layout, stride };
  }
}

/** Addresses in the scratch memory, and the floats from one row of scores to the next. */
type Layout = Readonly<Record<(typeof PLACES)[number] | "stride", number>>;

function addresses({ blocks }: SharedRows): number[] {
  return blocks.map(({ address }) => address);
}
