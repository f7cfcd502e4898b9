import { LongctxError } from "../../common/errors.ts";
import type { Interval } from "../../method/plan.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { Block, SharedMemory } from "../wasm/shared-memory.ts";
import { PlacedBlocks, type Places, type Side } from "./placed-blocks.ts";

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

/** A buffer's rows in the memory that kernels share, either as floats or as codes of 8 bits with a scale for each row. */
export interface SharedRows {
  readonly memory: SharedMemory;
  readonly blocks: readonly Block[];
  /** The rows [K, stride, D]; null where they are codes. */
  readonly floats: Float32Array | null;
  /** Tokens [0, done) are up to date here. */
  done: number;
}

/** Buffers below so many bytes are ordinary ones, since a resizable buffer takes a memory mapping of its own. */
const SMALLEST_MOVED = 2 ** 18;

/**
 * Keys or values of one layer, [K, stride, D]. onnxruntime takes no views of shared memory and kernels see no other, so
 * the rows are in ordinary memory for chunks and in shared memory for single tokens; whichever side is asked for first
 * copies the rows that were written on the other.
 */
export class CacheBuffer {
  shared: SharedRows | null = null;
  readonly size: number;
  /** Slots of a head, rounded up to an even number, since codes of values lie in pairs. */
  readonly stride: number;
  /** The blocks of old tokens behind the ring; null where the ring holds all tokens that are read. */
  readonly placed: PlacedBlocks | null;
  /** Key heads. */
  readonly heads: number;
  readonly #slots: SlotMap;
  readonly #headSize: number;
  readonly #memory: HeldMemory;
  #floats: Float32Array | null;
  /** Tokens [0, done) are up to date in `#floats`. */
  #done = 0;

  constructor(slots: SlotMap, heads: number, headSize: number, places: Places | null = null) {
    this.#slots = slots;
    this.heads = heads;
    this.#headSize = headSize;
    this.placed = places && new PlacedBlocks(places);
    const count = slots.layout.capacity + (places ? places.count * places.block : 0);
    this.stride = count + (count & 1);
    this.size = heads * this.stride * headSize;
    this.#memory = this.#allocated();
    this.#floats = new Float32Array(this.#memory);
  }

  get byteLength(): number {
    const shared = this.shared?.blocks.reduce((sum, { bytes }) => sum + bytes, 0) ?? 0;
    return shared === 0 || this.#floats ? this.size * 4 + shared : shared;
  }

  /** A head's slots [from, to) in ordinary memory, for reading. */
  view(head: number, from: number, to: number): Float32Array {
    return this.#rows(this.#upToDate(), head, from, to);
  }

  /** A head's slots [from, to) in ordinary memory, for writing the tokens that were appended last. */
  place(head: number, from: number, to: number): Float32Array {
    const floats = this.#upToDate();
    this.#done = this.#slots.length;
    return this.#rows(floats, head, from, to);
  }

  /** A head's slots [from, to) for reading, from whichever memory has them. */
  read(head: number, from: number, to: number): Float32Array {
    return this.#rows(this.#floats ? this.#upToDate() : (this.shared?.floats ?? this.#upToDate()), head, from, to);
  }

  /** Writes a block of old tokens into a place, in whichever memory is in use; `write` gets the rows of each head. */
  fill(place: number, block: number, write: (heads: readonly Float32Array[]) => void): void {
    const placed = this.placed!;
    const shared = this.#floats ? null : (this.shared?.floats ?? null);
    const floats = shared ?? this.#upToDate();
    const { from, to } = placed.slotsOf(place);
    write(Array.from({ length: this.heads }, (_, head) => this.#rows(floats, head, from, to)));
    placed.wrote(place, block, shared ? "shared" : "ordinary");
  }

  /** Copies a head's rows of listed slots together, [n, D]. */
  gather(head: number, slots: ArrayLike<number>, to: Float32Array): void {
    const size = this.#headSize;
    const floats = this.read(head, 0, this.stride);
    for (let i = 0, at = 0; i < slots.length; i++)
      for (let from = slots[i] * size, end = from + size; from < end; from++) to[at++] = floats[from];
  }

  /** Forgets all rows. */
  clear(): void {
    this.truncate(0);
    this.placed?.forget(0);
  }

  /** Declares that the caller writes all rows of tokens before `end` anew, through `view`. */
  rewrite(end: number): void {
    this.clear();
    this.#upToDate();
    this.#done = end;
  }

  /** Where the row of the token that was appended last is written in shared memory. */
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
    if (this.#floats) this.#copyBlocks(this.#floats, to, "ordinary");
    shared.done = Math.max(shared.done, end);
    if (this.#memory.resizable) {
      this.#memory.resize(0);
      this.#floats = null;
      this.placed?.lose("ordinary");
    }
    return to;
  }

  /** Frees the shared memory after its rows were copied back. */
  unshare(): void {
    if (this.shared?.floats) this.#upToDate();
    this.release();
  }

  /** Frees the shared memory without looking at its rows. */
  release(): void {
    for (const block of this.shared?.blocks ?? []) this.shared!.memory.release(block);
    this.shared = null;
    this.placed?.lose("shared");
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
    if (this.shared?.floats) this.#copyBlocks(this.shared.floats, floats, "shared");
    return floats;
  }

  /** Zeros; the system provides a page of memory when it is first written. */
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
    for (const run of this.#slots.runs(first, end)) this.#copySlots(from, to, run);
  }

  /** Copies the blocks of old tokens that one side holds and the other lacks. */
  #copyBlocks(from: Float32Array, to: Float32Array, side: Side): void {
    for (const slots of this.placed?.moveFrom(side) ?? []) this.#copySlots(from, to, slots);
  }

  #copySlots(from: Float32Array, to: Float32Array, slots: Interval): void {
    for (let head = 0; head < this.heads; head++)
      this.#rows(to, head, slots.from, slots.to).set(this.#rows(from, head, slots.from, slots.to));
  }

  #rows(floats: Float32Array, head: number, from: number, to: number): Float32Array {
    const start = head * this.stride;
    return floats.subarray((start + from) * this.#headSize, (start + to) * this.#headSize);
  }
}
