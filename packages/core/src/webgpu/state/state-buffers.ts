import type { StateBytes } from "../../backend/backend.ts";
import { LongctxError } from "../../common/errors.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";

type Part = keyof StateBytes;

/** Memory goes back when a state was forgotten instead of disposed of. */
const FORGOTTEN = new FinalizationRegistry<{ readonly gpu: Gpu; readonly slices: ReadonlyMap<GpuSlice, Part> }>(
  ({ gpu, slices }) => {
    for (const slice of slices.keys()) gpu.free(slice);
  },
);

/** The buffers of one sequence by what they are for, and what the device has not said yet of calls that concern them. */
export class StateBuffers {
  readonly gpu: Gpu;
  readonly #slices = new Map<GpuSlice, Part>();
  #pending: Promise<unknown>[] = [];
  /** Why the contents mean nothing any more. */
  #broken: unknown = null;
  #disposed = false;

  constructor(gpu: Gpu) {
    this.gpu = gpu;
    FORGOTTEN.register(this, { gpu, slices: this.#slices }, this);
  }

  get bytesByPart(): StateBytes {
    const bytes = { ring: 0, far: 0, index: 0, memory: 0 };
    for (const [{ size }, part] of this.#slices) bytes[part] += size;
    return bytes;
  }

  take(bytes: number, part: Part): GpuSlice {
    const slice = this.gpu.allocate(bytes, "cache");
    this.#slices.set(slice, part);
    return slice;
  }

  free(slice: GpuSlice): void {
    this.gpu.free(slice);
    this.#slices.delete(slice);
  }

  /** Runs calls on the device that concern these buffers alone; `settled` tells how they went. */
  scoped<Result>(calls: () => Result): Result {
    const { result, told } = this.gpu.scoped(calls);
    this.#pending.push(told);
    return result;
  }

  /** What is copied from other buffers is only there when their own calls went well. */
  waitFor(others: StateBuffers): void {
    this.#pending.push(...others.#pending);
  }

  /**
   * Null when all scoped calls went well; else waits until the device says so.
   * @throws LongctxError "device" when one did not: the contents mean nothing then
   */
  settled(): Promise<void> | null {
    return this.#pending.length === 0 ? null : this.#settle(this.#pending);
  }

  async #settle(pending: readonly Promise<unknown>[]): Promise<void> {
    try {
      await Promise.all(pending);
    } catch (error) {
      this.break(error);
      throw error;
    }
    this.#pending = this.#pending.filter((told) => !pending.includes(told));
  }

  /** @throws LongctxError when the buffers were disposed of, or a failed device left them half written */
  check(): void {
    if (this.#disposed) throw new LongctxError("argument", "This state was disposed of; create another one.");
    if (this.#broken)
      throw new LongctxError("device", "The device failed while this state was written; prefill again.", {
        cause: this.#broken,
      });
  }

  break(cause: unknown): void {
    this.#broken = cause;
  }

  dispose(): void {
    FORGOTTEN.unregister(this);
    for (const slice of this.#slices.keys()) this.gpu.free(slice);
    this.#slices.clear();
    this.#disposed = true;
  }
}
