/// <reference types="@webgpu/types" />
import { LongctxError } from "../../common/errors.ts";
import type { GpuSource } from "./gpu-source.ts";
import { Commands } from "./commands.ts";
import { encodeCopies, writeInPieces, type Copy } from "./copies.ts";
import { Failures, type Scoped } from "./failures.ts";
import type { Capabilities, Dispatch, GpuSlice, Kernel } from "./kernel.ts";
import { Ledger, mebibytes, type Purpose } from "./ledger.ts";
import { kernelTimes } from "./kernel-times.ts";
import { MAP_READ, roundUp, USAGE } from "./numbers.ts";
import { restUntil, batchBytes, encodeReads, READ_PIECE, readBatches, Readback, type ReadPiece } from "./readback.ts";
import { Pipelines } from "./pipelines.ts";
import { submissionEnds } from "./submissions.ts";

/** A device with everything that lives on it. Whoever opened it calls `destroy`, or the process does not end. */
export class Gpu {
  readonly name: string;
  /** All that the adapter says of itself. */
  readonly adapter: string;
  readonly capabilities: Capabilities;
  readonly ledger = new Ledger();
  readonly pipelines: Pipelines;
  readonly commands: Commands;
  readonly #device: GPUDevice;
  readonly #source: GpuSource;
  readonly #failures: Failures;
  readonly #purposes = new Map<GPUBuffer, { readonly purpose: Purpose; readonly bytes: number }>();
  readonly #readback: Readback;
  /** What is allocated while somebody collects. */
  #collected: GpuSlice[] | null = null;
  #closed = false;

  constructor(source: GpuSource, device: GPUDevice, name: string, capabilities: Capabilities, adapter = name) {
    this.name = name;
    this.adapter = adapter;
    this.capabilities = capabilities;
    this.#device = device;
    this.#source = source;
    this.#failures = new Failures(device, name, this.ledger);
    this.pipelines = new Pipelines(device);
    this.commands = new Commands(device, this.pipelines, this.ledger);
    this.#readback = new Readback(device, this.ledger);
  }

  /**
   * A buffer of its own, filled with zeros. One dispatch cannot read and write the same buffer, so nothing is cut from
   * larger ones. @throws LongctxError "device" when it is larger than the device allows
   */
  allocate(bytes: number, purpose: Purpose): GpuSlice {
    this.#failures.check();
    const size = Math.max(4, roundUp(bytes, 4));
    const { maxBuffer } = this.capabilities;
    if (size > maxBuffer)
      throw new LongctxError(
        "device",
        `A buffer of ${mebibytes(size)} for ${purpose} is larger than ${this.name} allows (${mebibytes(maxBuffer)}). Give a smaller capacity or chunk, or use --device cpu.`,
      );
    const buffer = this.#device.createBuffer({
      label: purpose,
      size,
      usage: USAGE.storage | USAGE.copySource | USAGE.copyTarget,
    });
    this.#purposes.set(buffer, { purpose, bytes: size });
    this.ledger.add(purpose, size);
    const slice = { buffer, offset: 0, size };
    this.#collected?.push(slice);
    return slice;
  }

  upload(data: ArrayBufferView, purpose: Purpose): GpuSlice {
    const slice = this.allocate(data.byteLength, purpose);
    this.write(slice, data);
    return slice;
  }

  /** Writes from byte `at` of the slice on, a multiple of 4; a last word that the data does not fill ends with zeros. */
  write(slice: GpuSlice, data: ArrayBufferView, at = 0): void {
    writeInPieces(this.#device.queue, slice, data, at);
  }

  free(slice: GpuSlice): void {
    const known = this.#purposes.get(slice.buffer);
    if (!known) return;
    this.#purposes.delete(slice.buffer);
    this.ledger.remove(known.purpose, known.bytes);
    this.commands.forget();
    slice.buffer.destroy();
  }

  /** Copies stretches on the device, behind what was submitted. */
  copy(copies: readonly Copy[]): void {
    if (copies.length === 0) return;
    const encoder = this.#device.createCommandEncoder();
    encodeCopies(encoder, copies);
    this.#device.queue.submit([encoder.finish()]);
  }

  /**
   * Calls whose failures are their own: `told` rejects with what the device says of them, and nobody else hears of it.
   * For allocations, copies and writes, which answer before the device knows whether it can.
   */
  scoped<Result>(calls: () => Result): Scoped<Result> {
    return this.#failures.scoped(calls);
  }

  /** What calls allocate; all of it is freed when they throw. */
  collect<Result>(calls: () => Result): { readonly result: Result; readonly slices: readonly GpuSlice[] } {
    const [outer, slices] = [this.#collected, [] as GpuSlice[]];
    this.#collected = slices;
    try {
      return { result: calls(), slices };
    } catch (error) {
      for (const slice of slices) this.free(slice);
      throw error;
    } finally {
      this.#collected = outer;
    }
  }

  /** After a failure: buffers that every pass uses may be the ones that the device could not make, so they go. */
  recover(): void {
    this.commands.release();
  }

  /** Compiles what is not compiled yet, side by side. */
  prepare(kernels: Iterable<Kernel>): Promise<void> {
    return this.#failures.settle(this.pipelines.prepare(kernels));
  }

  /** Runs dispatches in order and waits for them. */
  async run(dispatches: readonly Dispatch[]): Promise<void> {
    await this.runAndRead(dispatches, []);
  }

  /** The bytes of a slice, after all that was submitted. */
  async read(slice: GpuSlice): Promise<Uint8Array> {
    return (await this.runAndRead([], [slice]))[0];
  }

  /**
   * One command buffer: the dispatches in one pass, then copies, then what is read of their results; several that follow
   * one another where the dispatches are much work (`submissionEnds`). More than 64 MiB are read in pieces, in turn.
   */
  async runAndRead(
    dispatches: readonly Dispatch[],
    reads: readonly GpuSlice[],
    copies: readonly Copy[] = [],
  ): Promise<Uint8Array[]> {
    this.#failures.check();
    const kernels = dispatches.map(({ kernel }) => kernel);
    if (kernels.some((kernel) => !this.pipelines.has(kernel))) await this.prepare(kernels);
    const bytes = reads.map(({ size }) => new Uint8Array(size));
    const [first = [], ...rest] = readBatches(reads, Math.min(READ_PIECE, this.capabilities.maxBuffer));
    await this.#step(first, { reads, bytes, dispatches, copies });
    for (const batch of rest) await this.#step(batch, { reads, bytes, dispatches: [], copies: [] });
    return bytes;
  }

  /** One buffer to read through, and one command buffer or several; the last is waited for. */
  async #step(batch: readonly ReadPiece[], { reads, bytes, dispatches, copies }: Step): Promise<void> {
    const total = batchBytes(batch);
    const { result: staging, told } = this.#failures.scoped(() =>
      this.#readback.lend(total, (buffer) => {
        this.commands.writeUniforms(dispatches);
        let from = 0;
        for (const to of submissionEnds(dispatches)) {
          const encoder = this.#device.createCommandEncoder();
          this.commands.encodePart(encoder, dispatches, from, to);
          if (to === dispatches.length) {
            encodeCopies(encoder, copies);
            if (buffer) encodeReads(encoder, batch, reads, buffer);
          }
          this.#device.queue.submit([encoder.finish()]);
          from = to;
        }
      }),
    );
    let whole = false;
    try {
      const done = staging ? staging.mapAsync(MAP_READ, 0, total) : this.#device.queue.onSubmittedWorkDone();
      const rested = this.capabilities.software ? restUntil(done) : done;
      rested.catch(() => undefined); // when the scopes already know better
      await told;
      await this.#failures.settle(rested);
      if (!staging) return;
      const mapped = staging.getMappedRange(0, total);
      for (const { index, from, size, at } of batch) bytes[index].set(new Uint8Array(mapped, at, size), from);
      staging.unmap();
      whole = true;
    } finally {
      if (staging && whole) this.#readback.giveBack(staging);
      else if (staging) this.#readback.drop(staging);
    }
  }

  /** Hands compiled dispatches over without waiting: for who measures what that costs the host. */
  submit(dispatches: readonly Dispatch[]): void {
    this.#failures.check();
    const encoder = this.#device.createCommandEncoder();
    this.commands.encode(encoder, dispatches);
    this.#device.queue.submit([encoder.finish()]);
  }

  /** Nanoseconds that each dispatch took on the device. @throws LongctxError "device" where it has no timestamps */
  async time(dispatches: readonly Dispatch[]): Promise<number[]> {
    if (!this.capabilities.timestamps)
      throw new LongctxError("device", `${this.name} has no timestamp-query, so kernels cannot be timed on it.`);
    await this.prepare(dispatches.map(({ kernel }) => kernel));
    return kernelTimes(this, this.#device, dispatches);
  }

  /** Throws what went wrong on the device since it was last asked. */
  check(): void {
    this.#failures.check();
  }

  /** Objects kept for what comes next: work that repeats itself leaves these numbers, and the ledger's bytes, as they are. */
  get held(): { readonly buffers: number; readonly bindGroups: number; readonly pipelines: number } {
    return {
      buffers: this.#purposes.size + this.#readback.held,
      bindGroups: this.commands.keptBindGroups,
      pipelines: this.pipelines.size,
    };
  }

  /** Gives everything back, the device too. Calls after it are refused. */
  destroy(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#failures.close();
    this.commands.release();
    for (const [buffer, { purpose, bytes }] of this.#purposes) {
      buffer.destroy();
      this.ledger.remove(purpose, bytes);
    }
    this.#purposes.clear();
    this.#readback.release();
    this.#device.destroy();
    this.#source.release();
  }
}

/** Work that is handed over together, and where what is read of it goes. */
interface Step {
  readonly reads: readonly GpuSlice[];
  readonly bytes: readonly Uint8Array[];
  readonly dispatches: readonly Dispatch[];
  readonly copies: readonly Copy[];
}
