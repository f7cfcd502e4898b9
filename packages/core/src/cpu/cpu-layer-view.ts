import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import type { LayerView } from "../method.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import type { CpuCache } from "./cpu-cache.ts";
import { angles, RAW, type Rotation } from "./rotation.ts";

/** What a hook sees of a layer: the chunk's own rows come from the projection, older ones from the cache. */
export class CpuLayerView implements LayerView {
  readonly layer: number;
  readonly first: number;
  readonly count: number;
  readonly #config: ModelConfig;
  readonly #cache: CpuCache;
  readonly #projected: Float32Array;

  constructor(
    config: ModelConfig,
    cache: CpuCache,
    layer: number,
    first: number,
    count: number,
    projected: Float32Array,
  ) {
    this.#config = config;
    this.#cache = cache;
    this.layer = layer;
    this.first = first;
    this.count = count;
    this.#projected = projected;
  }

  queries(): Float32Array {
    return this.#columns(0, this.#config.queryHeads, 0, this.count);
  }

  keys(range: { from: number; to: number }): Float32Array {
    const { copies } = this.#cache.layers[this.layer];
    const copy = copies.get(RAW) ?? [...copies.values()].find(({ rotation }) => rotation);
    return this.#rows(range, this.#config.queryHeads, copy?.buffer, copy?.rotation ?? null);
  }

  values(range: { from: number; to: number }): Float32Array {
    return this.#rows(
      range,
      this.#config.queryHeads + this.#config.keyHeads,
      this.#cache.layers[this.layer].values,
      null,
    );
  }

  /** Some heads' columns of the projection, rows [from, to). */
  #columns(firstHead: number, heads: number, from: number, to: number): Float32Array {
    const { queryHeads, keyHeads, headSize } = this.#config;
    const stride = (queryHeads + 2 * keyHeads) * headSize;
    const out = new Float32Array((to - from) * heads * headSize);
    for (let row = from; row < to; row++)
      out.set(
        this.#projected.subarray(row * stride + firstHead * headSize, row * stride + (firstHead + heads) * headSize),
        (row - from) * heads * headSize,
      );
    return out;
  }

  #rows(
    { from, to }: { from: number; to: number },
    firstHead: number,
    buffer: CacheBuffer | undefined,
    rotation: Rotation | null,
  ): Float32Array {
    const { keyHeads, headSize } = this.#config;
    const end = this.first + this.count;
    if (to > end)
      throw new LongctxError(
        "argument",
        `Token ${to - 1} is not in the cache, which ends with ${end - 1}; ask for less.`,
      );
    const out = new Float32Array((to - from) * keyHeads * headSize);
    for (let token = from; token < Math.min(to, this.first); token++) {
      if (!this.#cache.slots.holds(token))
        throw new LongctxError("capacity", `Token ${token} was evicted from the cache; ask for tokens it still holds.`);
      const slot = this.#cache.slots.slotOf(token);
      const unturned =
        rotation && !rotation.identity
          ? angles(
              { ...rotation, table: { ...rotation.table, amplitude: 1 }, rule: { id: "0", at: () => 0 } },
              [token],
              1,
              rotation,
            )
          : null;
      for (let head = 0; head < keyHeads; head++) {
        const row = out.subarray(
          ((token - from) * keyHeads + head) * headSize,
          ((token - from) * keyHeads + head + 1) * headSize,
        );
        row.set(buffer!.read(head, slot, slot + 1));
        if (unturned) turn(row, unturned.cos, unturned.sin);
      }
    }
    const begin = Math.max(from, this.first);
    if (begin < to)
      out.set(
        this.#columns(firstHead, keyHeads, begin - this.first, to - this.first),
        (begin - from) * keyHeads * headSize,
      );
    return out;
  }
}

/** Rotary pairs (i, i + d/2) of one head. */
function turn(row: Float32Array, cos: Float32Array, sin: Float32Array): void {
  const pairs = cos.length;
  for (let i = 0; i < pairs; i++) {
    const [a, b] = [row[i], row[i + pairs]];
    row[i] = a * cos[i] - b * sin[i];
    row[i + pairs] = b * cos[i] + a * sin[i];
  }
}
