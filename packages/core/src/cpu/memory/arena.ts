const CHUNK_BYTES = 2 ** 26;
const ALIGNMENT = 64;

/** A resizable buffer, whose memory `resize(0)` frees without waiting for the garbage collector; typed as in lib.es2024. */
export interface HeldMemory extends ArrayBuffer {
  readonly resizable: boolean;
  resize(bytes: number): void;
}

/** A buffer of zeros; the system provides a page when it is first written. @throws RangeError when there is no memory */
export function heldMemory(bytes: number): HeldMemory {
  type Resizable = new (bytes: number, options: { maxByteLength: number }) => HeldMemory;
  return new (ArrayBuffer as unknown as Resizable)(bytes, { maxByteLength: bytes });
}

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
