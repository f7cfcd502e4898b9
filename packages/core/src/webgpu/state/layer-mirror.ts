import type { ModelConfig } from "../../model/config.ts";
import { angles, anglesFrom, turnRows, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { GpuCache } from "./gpu-cache.ts";
import { sourceOf } from "./key-places.ts";
import { quadsOf } from "../attention/attention-shape.ts";
import { stretches } from "./saved-cache.ts";

/**
 * Keys, not rotated, and values of one layer as hooks see them. Hooks look without waiting, and a device is only read by
 * waiting, so layers with a hook keep a copy on the host: each chunk adds its own rows, and what was read before there
 * was a hook is fetched once.
 */
export class LayerMirror {
  readonly #slots: SlotMap;
  readonly #rowSize: number;
  /** By slot, [slots, K, D]. */
  #keys = new Float32Array(0);
  #values = new Float32Array(0);
  /** Tokens [0, known) are here, as far as the cache holds them. */
  #known = 0;

  constructor(slots: SlotMap, { keyHeads, headSize }: ModelConfig) {
    this.#slots = slots;
    this.#rowSize = keyHeads * headSize;
  }

  get known(): number {
    return this.#known;
  }

  /** Rows [n, K, D] of the tokens that follow those known. */
  add(keys: Float32Array, values: Float32Array): void {
    for (let row = 0; row * this.#rowSize < keys.length; row++) {
      const from = row * this.#rowSize;
      this.set(
        this.#known + row,
        keys.subarray(from, from + this.#rowSize),
        values.subarray(from, from + this.#rowSize),
      );
    }
    this.#known += keys.length / this.#rowSize;
  }

  set(token: number, key: Float32Array, value: Float32Array): void {
    const at = this.#slots.slotOf(token) * this.#rowSize;
    if (at + this.#rowSize > this.#keys.length) {
      const size = Math.min(
        Math.max(2 * this.#keys.length, at + this.#rowSize),
        this.#slots.layout.capacity * this.#rowSize,
      );
      [this.#keys, this.#values] = [this.#keys, this.#values].map((old) => {
        const grown = new Float32Array(size);
        grown.set(old);
        return grown;
      });
    }
    this.#keys.set(key, at);
    this.#values.set(value, at);
  }

  key(token: number): Float32Array {
    return this.#row(this.#keys, token);
  }

  value(token: number): Float32Array {
    return this.#row(this.#values, token);
  }

  #row(rows: Float32Array, token: number): Float32Array {
    const at = this.#slots.slotOf(token) * this.#rowSize;
    return rows.subarray(at, at + this.#rowSize);
  }

  truncate(length: number): void {
    this.#known = Math.min(this.#known, length);
  }

  /** Tokens from `length` on are to be added anew: a chunk that failed may have left its own. */
  goBackTo(length: number): void {
    this.#known = length;
  }
}

/**
 * The layer's mirror with all tokens before `first`; those it lacks are read from the device.
 * @throws LongctxError "argument" when the rotation of the keys there is not known (`sourceOf`)
 */
export async function mirrorOf(
  cache: GpuCache,
  index: number,
  config: ModelConfig,
  first: number,
): Promise<LayerMirror> {
  const layer = cache.layers[index];
  layer.mirror ??= new LayerMirror(cache.slots, config);
  const { mirror } = layer;
  if (mirror.known < first) {
    const { rotation, place } = sourceOf(layer.copies);
    const read = await cache.gpu.runAndRead([], stretches(cache, layer, [place]));
    fill(cache, config, mirror, read, rotation, first);
  }
  mirror.goBackTo(first);
  return mirror;
}

/** `read` has the held slots of every head, values first. */
function fill(
  cache: GpuCache,
  { keyHeads, headSize }: ModelConfig,
  mirror: LayerMirror,
  read: readonly Uint8Array[],
  rotation: Rotation,
  first: number,
): void {
  const runs = cache.slots.runs(0, cache.slots.length);
  const rowSize = 4 * quadsOf(cache.shape);
  const rows = read.map((bytes) => floats(bytes, cache.shape.storage));
  const [key, value] = [new Float32Array(keyHeads * headSize), new Float32Array(keyHeads * headSize)];
  runs.forEach(({ from, to, token: begin }, run) => {
    const unknown = Math.max(begin, mirror.known);
    const count = Math.max(0, Math.min(begin + to - from, first) - unknown);
    const tokens = Array.from({ length: count }, (_, i) => unknown + i);
    const back = rotation.identity ? null : angles(UNROTATED, tokens, count, rotation);
    for (const token of tokens) {
      for (let head = 0; head < keyHeads; head++) {
        const at = (token - begin) * rowSize;
        value.set(rows[head * runs.length + run].subarray(at, at + headSize), head * headSize);
        const keys = rows[(keyHeads + head) * runs.length + run];
        key.set(keys.subarray(at, at + headSize), head * headSize);
      }
      turnRows(key, key, headSize, back && anglesFrom(back, token - unknown, 1));
      mirror.set(token, key, value);
    }
  });
}

function floats({ buffer, byteOffset, byteLength }: Uint8Array, storage: "f32" | "f16"): Float32Array {
  if (storage === "f32") return new Float32Array(buffer, byteOffset, byteLength / 4);
  return Float32Array.from(new Uint16Array(buffer, byteOffset, byteLength / 2), half);
}

/** IEEE half precision, of finite numbers: `storageCode` writes no others. */
function half(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
}
