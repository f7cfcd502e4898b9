import type { ModelConfig } from "../../model/config.ts";
import type { SlotMap } from "../../state/slots.ts";

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
  /** Tokens [0, known) are here, as far as the ring holds them. */
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
