/** The part of a `WebAssembly.Memory` that is used here; Node's types leave WebAssembly out. */
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

interface WasmMemories {
  readonly Memory: new (limits: { initial: number; maximum: number; shared: boolean }) => WasmMemory;
}

const { Memory } = (globalThis as unknown as { WebAssembly: WasmMemories }).WebAssembly;

const PAGE_BYTES = 65536;
/** 4 GiB: addresses have 32 bits. */
const MOST_PAGES = 65536;

/** An allocated stretch of the memory. */
export interface Block {
  readonly address: number;
  readonly bytes: number;
}

const ALIGNMENT = 64;

/** Memory that kernels on several threads see. It never shrinks; the system provides a page when it is first written. */
export class SharedMemory {
  readonly memory: WasmMemory = new Memory({ initial: 1, maximum: MOST_PAGES, shared: true });
  #end: number;
  /** Free blocks by address; adjacent ones are merged. */
  #free: Block[] = [];

  constructor(reserved: number) {
    this.#end = reserved;
  }

  /** Is there so much room behind everything that is allocated? */
  fits(bytes: number): boolean {
    return MOST_PAGES * PAGE_BYTES - this.#end >= bytes;
  }

  /** A block with whatever bytes it had before. @throws RangeError when there is no memory */
  allocate(size: number): Block {
    const bytes = Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    const spare = this.#free.findIndex((block) => block.bytes >= bytes);
    if (spare >= 0) {
      const block = this.#free[spare];
      const rest = { address: block.address + bytes, bytes: block.bytes - bytes };
      this.#free.splice(spare, 1, ...(rest.bytes > 0 ? [rest] : []));
      return { address: block.address, bytes };
    }
    const end = this.#end + bytes;
    if (end > MOST_PAGES * PAGE_BYTES) throw new RangeError(`There are no ${bytes} bytes left in the shared memory.`);
    const missing = Math.ceil((end - this.memory.buffer.byteLength) / PAGE_BYTES);
    if (missing > 0) this.memory.grow(missing);
    const block = { address: this.#end, bytes };
    this.#end = end;
    return block;
  }

  release(block: Block): void {
    const blocks = [...this.#free, block].sort((a, b) => a.address - b.address);
    this.#free = [];
    for (const next of blocks) {
      const last = this.#free.at(-1);
      if (last && last.address + last.bytes === next.address)
        this.#free[this.#free.length - 1] = { address: last.address, bytes: last.bytes + next.bytes };
      else this.#free.push(next);
    }
    const last = this.#free.at(-1);
    if (last && last.address + last.bytes === this.#end) {
      this.#end = last.address;
      this.#free.pop();
    }
  }

  /** A view that stays valid when the memory grows. */
  floats({ address }: Pick<Block, "address">, size: number): Float32Array {
    return new Float32Array(this.memory.buffer, address, size);
  }
}
