import type { SlotMap } from "../../state/slots.ts";
import type { CacheBuffer } from "./cache-buffer.ts";

/** Norms are at least this, as the definition of cosines says. */
const LEAST_NORM = 1e-6;

/** The inverse norms of a copy of a layer's keys, [K, stride], of which cosines are made. */
export class InverseNorms {
  readonly values: Float32Array;
  readonly stride: number;
  readonly #heads: number;
  /** Tokens [0, done) are here. */
  #done = 0;

  constructor(heads: number, stride: number) {
    this.#heads = heads;
    this.stride = stride;
    this.values = new Float32Array(heads * stride);
  }

  /** Adds the tokens that the buffer holds and that are missing. */
  extend(slots: SlotMap, buffer: CacheBuffer): void {
    for (const { from, to } of slots.runs(this.#done, slots.length)) {
      for (let head = 0; head < this.#heads; head++) {
        const rows = buffer.read(head, from, to);
        const size = rows.length / (to - from);
        for (let slot = from, at = 0; slot < to; slot++) {
          let sum = 0;
          for (const end = at + size; at < end; at++) sum += rows[at] * rows[at];
          this.values[head * this.stride + slot] = 1 / Math.max(Math.sqrt(sum), LEAST_NORM);
        }
      }
    }
    this.#done = slots.length;
  }

  truncate(length: number): void {
    this.#done = Math.min(this.#done, length);
  }
}
