import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import type { Lane } from "../lanes.ts";
import type { CacheBuffer } from "./cache-memory.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { CpuCache } from "./cpu-cache.ts";
import { ATTENTION } from "./kernel-bytes.ts";
import { angles, rotation, type Angles } from "./rotation.ts";
import { instantiate, wasmModule, type WasmModule } from "./web-assembly.ts";

/** See kernels/attention.ts; numbers are addresses or sizes. */
interface AttentionFunctions {
  score(
    queries: number,
    keys: number,
    scores: number,
    heads: number,
    count: number,
    stride: number,
    size: number,
    scale: number,
  ): void;
  softmax(scores: number, heads: number, count: number, stride: number): void;
  mix(
    probabilities: number,
    values: number,
    outputs: number,
    heads: number,
    count: number,
    stride: number,
    size: number,
  ): void;
}

let compiled: WasmModule | undefined;

/** Attention of one token over the lanes of a plan, in the memory of its cache. */
export class TokenAttention {
  readonly #config: ModelConfig;
  readonly #cache: CpuCache;
  readonly #functions: AttentionFunctions;
  #scratch: CacheBuffer;

  constructor(config: ModelConfig, cache: CpuCache) {
    compiled ??= wasmModule(ATTENTION);
    this.#config = config;
    this.#cache = cache;
    this.#functions = instantiate(compiled, cache.memory.memory);
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
      const value = (queryHeads + keyHeads + head) * headSize;
      for (let d = 0; d < headSize; d++) values.data[place + d] = projected[value + d];
    }
  }

  /** Fills `attended` [H, D]. */
  attend(layer: number, plan: TokenPlan, projected: Float32Array, attended: Float32Array): void {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const { lanes, width } = plan;
    const group = queryHeads / keyHeads;
    const size = queryHeads * headSize;
    const stride = Math.ceil(width / 4) * 4;
    this.#reserve((plan.turns.length + 1) * size + group * stride);
    const { data, address } = this.#scratch;
    const [outputs, queries, scores] = [0, size, (plan.turns.length + 1) * size];
    data.fill(0, outputs, outputs + size);
    if (lanes.length === 0) return attended.fill(0) as unknown as void;
    plan.turns.forEach((by, i) => {
      for (let head = 0; head < queryHeads && plan.chunk.shape.rotations[i].queries; head++)
        turn(projected, head * headSize, data, queries + i * size + head * headSize, headSize, by, plan.temperature);
    });
    const at = (offset: number) => address! + 4 * offset;
    const { copies, values } = this.#cache.layers[layer];
    const { score, softmax, mix } = this.#functions;
    for (let head = 0; head < keyHeads; head++) {
      const start = head * this.#cache.slots.layout.capacity;
      const place = (buffer: CacheBuffer, slot: number) => buffer.address! + 4 * (start + slot) * headSize;
      let done = 0;
      for (const { rotation: by, keys, from, count } of lanes) {
        const query = at(queries + by * size + head * group * headSize);
        const key = place(copies.get(keys)!.buffer, from);
        score(query, key, at(scores + done), group, count, stride, headSize, 1 / Math.sqrt(headSize));
        done += count;
      }
      softmax(at(scores), group, width, stride);
      done = 0;
      for (const { from, count } of lanes) {
        const output = at(outputs + head * group * headSize);
        mix(at(scores + done), place(values, from), output, group, count, stride, headSize);
        done += count;
      }
    }
    attended.set(data.subarray(outputs, outputs + size));
  }

  #reserve(size: number): void {
    if (this.#scratch.size >= size) return;
    this.#scratch = this.#cache.memory.allocate(Math.ceil(size * 1.5));
    if (this.#scratch.address === null)
      throw new LongctxError("capacity", "The cache leaves no room to attend in; give it a smaller capacity.");
  }
}

/** A plan for one token, ready for every layer that has it. */
export interface TokenPlan {
  readonly chunk: PreparedChunk;
  /** The token's angles under each rotation, null where it is none. */
  readonly turns: readonly (Angles | null)[];
  readonly temperature: number;
  /** Stretches of slots: the rotation of the query, the copy of the keys. */
  readonly lanes: readonly { rotation: number; keys: string; from: number; count: number }[];
  /** Of all lanes together. */
  readonly width: number;
}

export function tokenPlan(chunk: PreparedChunk, token: number, temperature = 1): TokenPlan {
  const [tile] = chunk.tiles;
  const lanes = (tile?.lanes ?? []).flatMap((lane, i) => {
    const common = {
      rotation: chunk.shape.tiles[0].lanes[i].rotation,
      keys: rotation(lane.segment.table, lane.segment.keyPosition).id,
    };
    return runsOf(lane.slots).map((run) => ({ ...common, ...run }));
  });
  return {
    chunk,
    turns: chunk.rotations.map((by) => (by.identity ? null : angles(by, [token], 1))),
    temperature,
    lanes,
    width: lanes.reduce((sum, { count }) => sum + count, 0),
  };
}

function runsOf(slots: Lane["slots"]): { from: number; count: number }[] {
  if (!(slots instanceof Int32Array)) return [{ from: slots.from, count: slots.to - slots.from }];
  const runs: { from: number; count: number }[] = [];
  for (const slot of slots) {
    const last = runs.at(-1);
    if (last && last.from + last.count === slot) last.count++;
    else runs.push({ from: slot, count: 1 });
  }
  return runs;
}

/** Rotates one head: pairs (i, i + d/2) of its first d channels. */
function turn(
  from: Float32Array,
  at: number,
  to: Float32Array,
  place: number,
  size: number,
  by: Angles | null,
  factor = 1,
): void {
  const pairs = by?.cos.length ?? 0;
  for (let i = 0; i < pairs; i++) {
    const a = from[at + i] * factor;
    const b = from[at + pairs + i] * factor;
    to[place + i] = a * by!.cos[i] - b * by!.sin[i];
    to[place + pairs + i] = b * by!.cos[i] + a * by!.sin[i];
  }
  for (let i = 2 * pairs; i < size; i++) to[place + i] = from[at + i] * factor;
}
