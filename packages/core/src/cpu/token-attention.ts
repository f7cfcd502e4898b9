import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import { attentionKernels, type AttentionKernels } from "./attention-kernels.ts";
import type { CacheBuffer, CompactCopy } from "./cache-memory.ts";
import type { CpuCache } from "./cpu-cache.ts";
import { turn, type TokenLane, type TokenPlan } from "./token-plan.ts";

/** Kernels write whole vectors, so rows of scores end at one, and some more are written beyond the last. */
const STRIDE = 16;
/** i16 of a block of `mixCompact`, in floats. */
const WEIGHTS = 136;
/** 64 products of 8 and 16 bits fit 32 many times over; so many do not. */
const MOST_COMPACT_CHANNELS = 512;

/** Where things lie in the scratch memory, in floats. */
interface Layout {
  readonly outputs: number;
  readonly queries: number;
  readonly codes: number;
  readonly factors: number;
  readonly sums: number;
  readonly weights: number;
  readonly scores: number;
  readonly stride: number;
  readonly size: number;
}

/** Attention of one token over the lanes of a plan, in the memory of its cache. */
export class TokenAttention {
  readonly #config: ModelConfig;
  readonly #cache: CpuCache;
  readonly #kernels: AttentionKernels;
  readonly #compact: boolean;
  #scratch: CacheBuffer;

  /** `fast` reads keys and values in 8 bits. */
  constructor(config: ModelConfig, cache: CpuCache, fast: boolean) {
    this.#config = config;
    this.#cache = cache;
    this.#compact = fast && config.headSize % 8 === 0 && config.headSize <= MOST_COMPACT_CHANNELS;
    this.#kernels = attentionKernels(cache.memory.memory);
    this.#scratch = cache.memory.allocate(0);
  }

  /** Keeps the token's keys and values; `projected` is its q, k and v side by side. */
  store(layer: number, { chunk, turns }: TokenPlan, token: number, projected: Float32Array): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { copies, values } = this.#cache.layers[layer];
    const slot = this.#cache.slots.slotOf(token);
    for (let head = 0; head < keyHeads; head++) {
      const place = (head * this.#cache.slots.layout.capacity + slot) * headSize;
      const key = (queryHeads + head) * headSize;
      for (const [i, by] of chunk.keyRotations)
        turn(projected, key, copies.get(by.id)!.buffer.data, place, headSize, turns[i]);
      const value = key + keyHeads * headSize;
      values.data.set(projected.subarray(value, value + headSize), place);
    }
  }

  /** Fills `attended` [H, D]. */
  attend(layer: number, plan: TokenPlan, projected: Float32Array, attended: Float32Array): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { lanes, width } = plan;
    if (lanes.length === 0) {
      attended.fill(0);
      return;
    }
    const { copies, values } = this.#cache.layers[layer];
    const compactKeys = new Map<string, CompactCopy>();
    if (this.#compact) {
      for (const { keys } of lanes)
        if (!compactKeys.has(keys)) compactKeys.set(keys, this.#upToDate(copies.get(keys)!.buffer, "keys"));
      this.#upToDate(values, "values");
    }
    const layout = this.#layOut(plan);
    const { data } = this.#scratch;
    data.fill(0, layout.outputs, layout.outputs + queryHeads * headSize);
    plan.turns.forEach((by, i) => {
      const place = layout.queries + i * queryHeads * headSize;
      for (let head = 0; head < queryHeads && plan.chunk.shape.rotations[i].queries; head++)
        turn(projected, head * headSize, data, place + head * headSize, headSize, by, plan.temperature);
    });
    const group = queryHeads / keyHeads;
    for (let head = 0; head < keyHeads; head++) {
      let done = 0;
      for (const lane of lanes) {
        this.#score(head, lane, copies.get(lane.keys)!.buffer, layout, done);
        done += lane.count;
      }
      this.#kernels.softmax(this.#at(layout.scores), this.#at(layout.sums), group, width, layout.stride);
      done = 0;
      for (const lane of lanes) {
        this.#mix(head, lane, values, layout, done);
        done += lane.count;
      }
      for (let i = head * group; i < (head + 1) * group; i++) {
        const factor = 1 / data[layout.sums + i - head * group];
        for (let d = i * headSize; d < (i + 1) * headSize; d++) attended[d] = data[layout.outputs + d] * factor;
      }
    }
  }

  #score(head: number, lane: TokenLane, keys: CacheBuffer, layout: Layout, done: number): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    const query = this.#at(layout.queries + (lane.rotation * queryHeads + head * group) * headSize);
    const scores = this.#at(layout.scores + done);
    const scale = 1 / Math.sqrt(headSize);
    const row = head * this.#cache.slots.layout.capacity + lane.from;
    if (!this.#compact) {
      const key = keys.address! + 4 * row * headSize;
      this.#kernels.score(query, key, scores, group, lane.count, layout.stride, headSize, scale);
      return;
    }
    const { codes, scales } = keys.compact!;
    const [words, factors] = [this.#at(layout.codes), this.#at(layout.factors)];
    this.#kernels.compactQueries(query, words, factors, group, headSize);
    const key = codes.address! + row * headSize;
    const unit = scales.address! + 4 * row;
    this.#kernels.scoreCompact(words, factors, key, unit, scores, group, lane.count, layout.stride, headSize, scale);
  }

  #mix(head: number, lane: TokenLane, values: CacheBuffer, layout: Layout, done: number): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    const { capacity } = this.#cache.slots.layout;
    const scores = this.#at(layout.scores + done);
    const output = this.#at(layout.outputs + head * group * headSize);
    if (!this.#compact) {
      const value = values.address! + 4 * (head * capacity + lane.from) * headSize;
      this.#kernels.mix(scores, value, output, group, lane.count, layout.stride, headSize);
      return;
    }
    const { codes, scales } = values.compact!;
    const places = evenCapacity(capacity) * head;
    const code = codes.address! + places * headSize;
    const unit = scales.address! + 4 * places;
    const weights = this.#at(layout.weights);
    this.#kernels.mixCompact(
      scores,
      weights,
      code,
      unit,
      lane.from,
      output,
      group,
      lane.count,
      layout.stride,
      headSize,
    );
  }

  /** The 8-bit copy of a buffer, with all that was written since it was last asked for. */
  #upToDate(buffer: CacheBuffer, what: "keys" | "values"): CompactCopy {
    const { keyHeads, headSize } = this.#config;
    const { memory, slots } = this.#cache;
    const { capacity } = slots.layout;
    const rows = keyHeads * evenCapacity(capacity);
    // Kernels look at up to three rows beyond the last.
    const compact = (buffer.compact ??= {
      codes: memory.allocate(((rows + 4) * headSize) / 4),
      scales: memory.allocate(rows + 4),
      done: 0,
    });
    for (const run of slots.runs(compact.done, slots.length)) {
      const count = run.to - run.from;
      for (let head = 0; head < keyHeads; head++) {
        const row = head * capacity + run.from;
        const from = buffer.address! + 4 * row * headSize;
        const [codes, scales] = [compact.codes.address!, compact.scales.address!];
        if (what === "keys") this.#kernels.compactKeys(from, codes + row * headSize, scales + 4 * row, count, headSize);
        else {
          const place = head * evenCapacity(capacity);
          this.#kernels.compactValues(from, codes + place * headSize, scales + 4 * place, run.from, count, headSize);
        }
      }
    }
    compact.done = slots.length;
    return compact;
  }

  #layOut({ turns, width }: TokenPlan): Layout {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const size = queryHeads * headSize;
    const group = queryHeads / keyHeads;
    // Three more, which the last lane of a row would write into the next.
    const stride = Math.ceil((width + 3) / STRIDE) * STRIDE;
    let end = 0;
    const take = (count: number): number => {
      const at = end;
      end += Math.ceil(count / 4) * 4;
      return at;
    };
    const layout = {
      outputs: take(size),
      queries: take(size * turns.length),
      codes: take((group * headSize) / 2),
      factors: take(group),
      sums: take(group),
      weights: take(WEIGHTS),
      scores: take(group * stride + STRIDE),
      stride,
      size,
    };
    if (this.#scratch.size < end) this.#scratch = this.#cache.memory.allocate(Math.ceil(end * 1.5));
    if (!this.#cache.addressable || this.#scratch.address === null)
      throw new LongctxError("capacity", "The cache leaves no room to attend in; give it a smaller capacity.");
    return layout;
  }

  #at(offset: number): number {
    return this.#scratch.address! + 4 * offset;
  }
}

/** Values lie in pairs of slots. */
function evenCapacity(capacity: number): number {
  return capacity + (capacity & 1);
}
