import type { ModelConfig } from "../config.ts";
import type { SharedRows } from "./cache-buffer.ts";
import type { Dense, Floats } from "./dense.ts";
import type { Block } from "./shared-memory.ts";
import { turn, type TokenPlan } from "./token-plan.ts";

/** Kernels write whole vectors, so rows of scores end at one, and some more are written beyond the last. */
const STRIDE = 16;
/** i16 of a block of `mixCompact`, in bytes. */
const WEIGHTS = 544;
/** Slots that one thread attends to at a time: enough parts for all threads, long enough to be worth the joining. */
const LONGEST_PART = 1024;
const SHORTEST_PART = 64;
/** Numbers of a part and of a job in kernels/src/attention.ts. */
const PART_NUMBERS = 14;
const JOB_NUMBERS = 4;

/** A stretch of a lane's slots. */
interface Stretch {
  readonly rotation: number;
  readonly keys: string;
  readonly from: number;
  readonly count: number;
}

/** Divides the attention of one token into parts that threads take, and has them computed. */
export class AttentionParts {
  readonly #config: ModelConfig;
  readonly #dense: Dense;
  readonly #compact: boolean;
  #scratch: Block | null = null;

  constructor(config: ModelConfig, dense: Dense, compact: boolean) {
    this.#config = config;
    this.#dense = dense;
    this.#compact = compact;
  }

  /** `keys` by the name of the copy, a head's rows `slots` apart; fills `attended` [H, D]. */
  attend(
    slots: number,
    plan: TokenPlan,
    keys: ReadonlyMap<string, SharedRows>,
    values: SharedRows,
    projected: Float32Array,
    attended: Floats,
  ): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { functions, memory } = this.#dense;
    const group = queryHeads / keyHeads;
    const stretches = this.#stretches(plan);
    const layout = this.#layOut(plan, stretches);
    const queries = this.#queries(plan, projected, layout.queries, layout.codes, layout.factors);
    const count = keyHeads * stretches.length;
    const [valueRows, valueScales = 0] = addresses(values);
    const table = new Int32Array(memory.memory.buffer, layout.job, JOB_NUMBERS + PART_NUMBERS * count);
    table.set([layout.job + 4 * JOB_NUMBERS, group, headSize]);
    new Float32Array(memory.memory.buffer, layout.job + 12, 1)[0] = 1 / Math.sqrt(headSize);
    let at = JOB_NUMBERS;
    for (let head = 0; head < keyHeads; head++) {
      for (let i = 0; i < stretches.length; i++) {
        const part = stretches[i];
        const number = head * stretches.length + i;
        const [keyRows, keyScales = 0] = addresses(keys.get(part.keys)!);
        const row = head * slots + part.from;
        const valueRow = head * slots;
        const query = part.rotation * queryHeads + head * group;
        table[at++] = queries + query * headSize * (this.#compact ? 2 : 4);
        table[at++] = layout.factors + 4 * query;
        table[at++] = keyRows + row * headSize * (this.#compact ? 1 : 4);
        table[at++] = this.#compact ? keyScales + 4 * row : 0;
        table[at++] = valueRows + (this.#compact ? valueRow * headSize : 4 * (valueRow + part.from) * headSize);
        table[at++] = this.#compact ? valueScales + 4 * valueRow : 0;
        table[at++] = part.from;
        table[at++] = part.count;
        table[at++] = layout.scores + 4 * number * group * layout.stride;
        table[at++] = layout.stride;
        table[at++] = layout.weights + number * WEIGHTS;
        table[at++] = layout.outputs + 4 * number * group * headSize;
        table[at++] = layout.sums + 4 * number * group;
        table[at++] = layout.maxima + 4 * number * group;
      }
    }
    functions.attend(layout.job, count, stretches.length, attended.address);
  }

  /** The lanes cut so that no thread waits long for another. */
  #stretches({ lanes, width }: TokenPlan): Stretch[] {
    const even = Math.ceil((width * this.#config.keyHeads) / (4 * this.#dense.threads));
    const longest = Math.min(Math.max(Math.ceil(even / STRIDE) * STRIDE, SHORTEST_PART), LONGEST_PART);
    return lanes.flatMap((lane) => {
      const parts: Stretch[] = [];
      for (let done = 0; done < lane.count; done += longest)
        parts.push({ ...lane, from: lane.from + done, count: Math.min(longest, lane.count - done) });
      return parts;
    });
  }

  /** The query under each rotation of the plan, as kernels read it; where the first begins. */
  #queries(plan: TokenPlan, projected: Float32Array, floats: number, codes: number, factors: number): number {
    const { queryHeads, headSize } = this.#config;
    const { functions, memory } = this.#dense;
    const size = queryHeads * headSize;
    const data = memory.floats({ address: floats }, plan.turns.length * size);
    plan.turns.forEach((by, i) => {
      if (!plan.chunk.shape.rotations[i].queries) return;
      for (let head = 0; head < queryHeads; head++)
        turn(projected, head * headSize, data, i * size + head * headSize, headSize, by, plan.temperature);
      if (this.#compact)
        functions.compactQueries(
          floats + 4 * i * size,
          codes + 2 * i * size,
          factors + 4 * i * queryHeads,
          queryHeads,
          headSize,
        );
    });
    return this.#compact ? codes : floats;
  }

  /** Where things lie in the scratch memory. */
  #layOut({ turns }: TokenPlan, stretches: readonly Stretch[]) {
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
      queries: take(4 * turns.length * queryHeads * headSize),
      codes: take(2 * turns.length * queryHeads * headSize),
      factors: take(4 * turns.length * queryHeads),
      weights: take(WEIGHTS * count),
      outputs: take(4 * count * group * headSize),
      sums: take(4 * count * group),
      maxima: take(4 * count * group),
      scores: take(4 * count * group * stride + 64),
      stride,
    };
    if (!this.#scratch || this.#scratch.bytes < bytes) {
      if (this.#scratch) this.#dense.memory.release(this.#scratch);
      this.#scratch = this.#dense.memory.allocate(Math.ceil(bytes * 1.5));
    }
    const { address } = this.#scratch;
    return {
      ...layout,
      job: address + layout.job,
      queries: address + layout.queries,
      codes: address + layout.codes,
      factors: address + layout.factors,
      weights: address + layout.weights,
      outputs: address + layout.outputs,
      sums: address + layout.sums,
      maxima: address + layout.maxima,
      scores: address + layout.scores,
    };
  }
}

function addresses({ blocks }: SharedRows): number[] {
  return blocks.map(({ address }) => address);
}
