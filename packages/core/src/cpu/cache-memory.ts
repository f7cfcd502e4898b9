import { MOST_PAGES, PAGE_BYTES, wasmMemory, type WasmMemory } from "./web-assembly.ts";

/**
 * Memory of one cache, of which kernels and onnxruntime see the same floats. Pages never written cost nothing.
 * WebAssembly addresses 4 GB; what goes beyond lies in ordinary memory, where no kernel reaches it.
 */
export class CacheMemory {
  readonly memory: WasmMemory = wasmMemory(1);
  readonly #free: CacheBuffer[] = [];
  #end = 64;

  /** A buffer of zeros, or of what a released one of the same size held. @throws RangeError when there is no memory */
  allocate(size: number): CacheBuffer {
    const spare = this.#free.findIndex((buffer) => buffer.size === size);
    if (spare >= 0) return this.#free.splice(spare, 1)[0];
    const end = this.#end + Math.ceil((size * 4) / 64) * 64;
    if (end > MOST_PAGES * PAGE_BYTES) return new CacheBuffer(null, new Float32Array(size));
    const missing = Math.ceil((end - this.memory.buffer.byteLength) / PAGE_BYTES);
    if (missing > 0) this.memory.grow(missing);
    const buffer = new CacheBuffer(this.memory, new Float32Array(this.memory.buffer, this.#end, size));
    this.#end = end;
    return buffer;
  }

  release(buffer: CacheBuffer): void {
    this.#free.push(buffer);
  }
}

/** A second copy of a buffer's rows in 8 bits, see kernels/src/compact.ts. */
export interface CompactCopy {
  readonly codes: CacheBuffer;
  readonly scales: CacheBuffer;
  /** Tokens before this one are up to date. */
  done: number;
}

export class CacheBuffer {
  compact: CompactCopy | null = null;
  readonly size: number;
  /** In bytes from the start of the memory; null outside it. */
  readonly address: number | null;
  readonly #memory: WasmMemory | null;
  #data: Float32Array;

  constructor(memory: WasmMemory | null, data: Float32Array) {
    this.#memory = memory;
    this.#data = data;
    this.size = data.length;
    this.address = memory && data.byteOffset;
  }

  /** Valid until the memory grows, which takes its old buffer away. */
  get data(): Float32Array {
    if (this.#memory && this.#data.length !== this.size)
      this.#data = new Float32Array(this.#memory.buffer, this.address!, this.size);
    return this.#data;
  }

  get byteLength(): number {
    const compact = this.compact ? this.compact.codes.byteLength + this.compact.scales.byteLength : 0;
    return this.size * 4 + compact;
  }
}
