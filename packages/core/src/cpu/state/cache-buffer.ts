import { LongctxError } from "../../common/errors.ts";
import type { SlotMap } from "../../state/slots.ts";
import { heldMemory, type HeldMemory } from "../memory/arena.ts";
import type { Block, SharedMemory } from "../memory/shared-memory.ts";

/** Rows of a buffer as kernels see them, in the memory they share: the floats themselves, or 8 bits and scales. */
export interface SharedRows {
  readonly memory: SharedMemory;
  readonly blocks: readonly Block[];
  /** [K, stride, D] of the floats; null for codes. */
  readonly floats: Float32Array | null;
  /** Tokens before this one are up to date. */
  done: number;
}

/** Smaller ones are not worth a mapping of their own. */
const SMALLEST_MOVED = 2 ** 18;

/**
 * Keys or values of one layer, [K, stride, D]. onnxruntime takes no views of shared memory and kernels see nothing
 * else, so rows move: chunks are read in ordinary memory, single tokens in shared memory, and what is behind is brought
 * up to date when it is asked for.
 */
export class CacheBuffer {
  shared: SharedRows | null = null;
  readonly size: number;
  /** Slots of a head: the capacity, but even, since codes of values lie in pairs. */
  readonly stride: number;
  readonly #slots: SlotMap;
  readonly #heads: number;
  readonly #headSize: number;
  readonly #memory: HeldMemory;
  #floats: Float32Array | null;
  /** Tokens before this one are up to date in `#floats`. */
  #done = 0;

  constructor(slots: SlotMap, heads: number, headSize: number) {
    this.#slots = slots;
    this.#heads = heads;
    this.#headSize = headSize;
    this.stride = slots.layout.capacity + (slots.layout.capacity & 1);
    this.size = heads * this.stride * headSize;
    this.#memory = this.#allocated();
    this.#floats = new Float32Array(this.#memory);
  }

  get byteLength(): number {
    const shared = this.shared?.blocks.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
    return shared === 0 || this.#floats ? this.size * 4 + shared : shared;
  }

  /** A head's slots [from, to) for reading. */
  view(head: number, from: number, to: number): Float32Array {
    return this.#rows(this.#upToDate(), head, from, to);
  }

  /** The same for writing the tokens last appended. */
  place(head: number, from: number, to: number): Float32Array {
    const floats = this.#upToDate();
    this.#done = this.#slots.length;
    return this.#rows(floats, head, from, to);
  }

  /** For reading alone, wherever the rows are. */
  read(head: number, from: number, to: number): Float32Array {
    return this.#rows(this.#floats ? this.#upToDate() : (this.shared?.floats ?? this.#upToDate()), head, from, to);
  }

  /** Forgets all rows. */
  clear(): void {
    this.truncate(0);
  }

  /** All rows of tokens before `end` are about to be written anew, through `view`. */
  rewrite(end: number): void {
    this.clear();
    this.#upToDate();
    this.#done = end;
  }

  /** Where a row of the last token is written: in shared memory if the rows have moved there. */
  row(memory: SharedMemory, head: number, slot: number): Float32Array {
    const end = this.#slots.length;
    const floats = this.share(memory, end - 1);
    this.shared!.done = end;
    return this.#rows(floats, head, slot, slot + 1);
  }

  truncate(length: number): void {
    this.#done = Math.min(this.#done, length);
    if (this.shared) this.shared.done = Math.min(this.shared.done, length);
  }

  /** Moves the rows of tokens before `end` to shared floats. */
  share(memory: SharedMemory, end: number): Float32Array {
    if (this.shared?.memory !== memory || !this.shared.floats) {
      this.#upToDate();
      this.unshare();
      const block = memory.allocate(4 * this.size);
      this.shared = { memory, blocks: [block], floats: memory.floats(block, this.size), done: 0 };
    }
    const { shared } = this;
    const to = shared.floats!;
    if (shared.done < end && this.#floats) this.#copy(this.#floats, to, shared.done, end);
    shared.done = Math.max(shared.done, end);
    if (this.#memory.resizable) {
      this.#memory.resize(0);
      this.#floats = null;
    }
    return to;
  }

  /** Gives the shared memory back, keeping the rows. */
  unshare(): void {
    if (this.shared?.floats) this.#upToDate();
    this.release();
  }

  /** Gives the shared memory back. */
  release(): void {
    for (const block of this.shared?.blocks ?? []) this.shared!.memory.release(block);
    this.shared = null;
  }

  #upToDate(): Float32Array {
    if (!this.#floats) {
      this.#memory.resize(this.size * 4);
      this.#floats = new Float32Array(this.#memory);
      this.#done = 0;
    }
    const floats = this.#floats;
    if (this.shared?.floats && this.shared.done > this.#done) {
      this.#copy(this.shared.floats, floats, this.#done, this.shared.done);
      this.#done = this.shared.done;
    }
    return floats;
  }

  /** Pages never written cost nothing. */
  #allocated(): HeldMemory {
    const bytes = this.size * 4;
    try {
      return bytes < SMALLEST_MOVED ? (new ArrayBuffer(bytes) as HeldMemory) : heldMemory(bytes);
    } catch (cause) {
      throw new LongctxError(
        "capacity",
        `There is no memory for a cache of ${this.#slots.layout.capacity} tokens (keys or values of one layer have ${this.size * 4} bytes). Give a smaller capacity.`,
        { cause },
      );
    }
  }

  #copy(from: Float32Array, to: Float32Array, first: number, end: number): void {
    for (const run of this.#slots.runs(first, end)) {
      for (let head = 0; head < this.#heads; head++)
        this.#rows(to, head, run.from, run.to).set(this.#rows(from, head, run.from, run.to));
    }
  }

  #rows(floats: Float32Array, head: number, from: number, to: number): Float32Array {
    const start = head * this.stride;
    return floats.subarray((start + from) * this.#headSize, (start + to) * this.#headSize);
  }
}
