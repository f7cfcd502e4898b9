import { LongctxError } from "../../common/errors.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuSlice } from "./kernel.ts";
import { mebibytes, type Purpose } from "./ledger.ts";
import { ALIGNMENT, roundUp } from "./numbers.ts";

/** Bytes of a page of tables; longer tables get a page of their own. */
const PAGE = 2 ** 20;

/**
 * Buffers that live as long as the decoder and are used anew by every chunk: what flows from kernel to kernel, by name,
 * and small tables from the host. They grow and never shrink, so a step that repeats itself allocates nothing.
 */
export class Workspace {
  readonly #gpu: Gpu;
  readonly #buffers = new Map<string, GpuSlice>();
  readonly #pages: GpuSlice[] = [];
  /** Replaced by larger ones; what was recorded may still use them. */
  readonly #retired: GpuSlice[] = [];
  /** What the device has not said yet of new buffers. */
  #pending: Promise<void>[] = [];
  #page = 0;
  #used = 0;
  /** Counts how often a buffer was replaced: dispatches made before it use the old one. */
  generation = 0;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** At least so many bytes under a name; what was in it is lost when it has to grow. */
  take(name: string, bytes: number): GpuSlice {
    const known = this.#buffers.get(name);
    if (known && known.size >= bytes) return known;
    const { maxBinding } = this.#gpu.capabilities;
    if (bytes > maxBinding)
      throw new LongctxError(
        "capacity",
        `A chunk's ${name} take ${mebibytes(bytes)}, but ${this.#gpu.name} binds ${mebibytes(maxBinding)} at once. Give a smaller chunk, or smaller groups or segments where the method reads by such.`,
      );
    if (known) {
      this.#retired.push(known);
      this.generation++;
    }
    const grown = this.#allocate(Math.min(2 ** Math.ceil(Math.log2(bytes)), maxBinding), "activations");
    this.#buffers.set(name, grown);
    return grown;
  }

  /** Writes a table behind those of this chunk; valid until `begin`. */
  put(data: ArrayBufferView): GpuSlice {
    const size = Math.max(4, roundUp(data.byteLength, 4));
    if (this.#page < this.#pages.length && this.#used + size > this.#pages[this.#page].size) this.#turnPage(size);
    if (this.#page >= this.#pages.length) this.#pages.push(this.#allocate(Math.max(PAGE, size), "tables"));
    const { buffer } = this.#pages[this.#page];
    const slice = { buffer, offset: this.#used, size };
    this.#used = roundUp(this.#used + size, ALIGNMENT);
    if (this.#pending.length === 0) this.#gpu.write(slice, data);
    else this.#pending.push(this.#gpu.scoped(() => this.#gpu.write(slice, data)).told); // the page may not exist
    return slice;
  }

  #allocate(bytes: number, purpose: Purpose): GpuSlice {
    const { result, told } = this.#gpu.scoped(() => this.#gpu.allocate(bytes, purpose));
    this.#pending.push(told);
    return result;
  }

  /**
   * Null when the device has all that was taken, as in every step that repeats itself; else waits until it says so.
   * @throws LongctxError "device"
   */
  settled(): Promise<unknown> | null {
    if (this.#pending.length === 0) return null;
    return Promise.all(this.#pending.splice(0));
  }

  #turnPage(size: number): void {
    do this.#page++;
    while (this.#page < this.#pages.length && this.#pages[this.#page].size < size);
    this.#used = 0;
  }

  /** A chunk begins: everything of the last one was submitted. */
  begin(): void {
    for (const slice of this.#retired.splice(0)) this.#gpu.free(slice);
    this.#page = 0;
    this.#used = 0;
  }

  /** Gives all back; what is taken afterwards is new. */
  release(): void {
    for (const slice of [...this.#retired, ...this.#buffers.values(), ...this.#pages]) this.#gpu.free(slice);
    this.#retired.length = this.#pages.length = 0;
    this.#buffers.clear();
    this.#pending = [];
    this.#page = this.#used = 0;
    this.generation++;
  }
}
