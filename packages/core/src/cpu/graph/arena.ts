import { heldMemory, type HeldMemory } from "../state/cache-buffer.ts";

const CHUNK_BYTES = 2 ** 26;
const ALIGNMENT = 64;

/** Allocates arrays that are freed all at once. */
export class Arena {
  readonly #chunks: HeldMemory[] = [];
  #used = 0;

  #allocate(bytes: number): { readonly buffer: ArrayBuffer; readonly offset: number } {
    const last = this.#chunks.at(-1);
    if (!last || this.#used + bytes > last.byteLength) {
      this.#chunks.push(heldMemory(Math.max(bytes, CHUNK_BYTES)));
      this.#used = 0;
    }
    const offset = this.#used;
    this.#used += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return { buffer: this.#chunks[this.#chunks.length - 1], offset };
  }

  bytes(size: number): Uint8Array {
    const { buffer, offset } = this.#allocate(size);
    return new Uint8Array(buffer, offset, size);
  }

  floats(size: number): Float32Array {
    const { buffer, offset } = this.#allocate(4 * size);
    return new Float32Array(buffer, offset, size);
  }

  /** Frees all arrays, which have no elements from then on. */
  release(): void {
    for (const chunk of this.#chunks) chunk.resize(0);
    this.#chunks.length = 0;
  }
}
