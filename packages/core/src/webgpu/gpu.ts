/// <reference types="@webgpu/types" />
import { LongctxError } from "../errors.ts";
import { chooseAdapter, gpuSource, type GpuSource } from "./adapter.ts";
import { capabilitiesOf, deviceDescriptor, type Feature } from "./capabilities.ts";
import { Commands } from "./commands.ts";
import { Failures } from "./failures.ts";
import type { Capabilities, Dispatch, GpuSlice, Kernel } from "./kernel.ts";
import { Ledger, mebibytes, type Purpose } from "./ledger.ts";
import { MAP_READ, roundUp, USAGE } from "./numbers.ts";
import { restUntil } from "./patience.ts";
import { Pipelines } from "./pipelines.ts";
import { tuningOf, type TuningSource } from "./tuning.ts";

export interface GpuOptions extends TuningSource {
  /** Refuse adapters that compute on a processor. */
  readonly hardwareOnly?: boolean;
  /** Features to do without although they are there. */
  readonly without?: readonly Feature[];
  /** In place of the runtime's own. */
  readonly source?: GpuSource;
}

/** Bytes that one call hands to the queue: the driver keeps a copy until they are written. */
const UPLOAD_PIECE = 2 ** 26;

/** @throws LongctxError "device" when this machine has no adapter, or not the one asked for */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const source = options.source ?? (await gpuSource());
  try {
    const { adapter, name, id, software } = await chooseAdapter(source.gpu, options.hardwareOnly ?? false);
    let device: GPUDevice;
    try {
      device = await adapter.requestDevice(deviceDescriptor(adapter, options.without));
    } catch (cause) {
      throw new LongctxError("device", `The WebGPU adapter ${name} gives no device: ${String(cause)}`, { cause });
    }
    const capabilities = capabilitiesOf(device, adapter.info, software);
    try {
      return new Gpu(source, device, name, { ...capabilities, tuning: await tuningOf(options, id, capabilities) }, id);
    } catch (error) {
      device.destroy();
      throw error;
    }
  } catch (error) {
    source.release();
    throw error;
  }
}

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
  /** Buffers to read through, by size; a step that repeats itself makes none. */
  readonly #readback = new Map<number, GPUBuffer[]>();
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
    return { buffer, offset: 0, size };
  }

  upload(data: ArrayBufferView, purpose: Purpose): GpuSlice {
    const slice = this.allocate(data.byteLength, purpose);
    this.write(slice, data);
    return slice;
  }

  /** Writes from the slice's beginning, or so many bytes behind it; both sizes are multiples of 4 or padded with zeros. */
  write(slice: GpuSlice, data: ArrayBufferView, at = 0): void {
    const { buffer, byteOffset, byteLength } = data;
    const whole = byteLength - (byteLength % 4);
    const { queue } = this.#device;
    for (let done = 0; done < whole; done += UPLOAD_PIECE) {
      const size = Math.min(UPLOAD_PIECE, whole - done);
      queue.writeBuffer(slice.buffer, slice.offset + at + done, buffer, byteOffset + done, size);
      if (size === UPLOAD_PIECE) queue.submit([]); // so that the driver's copies go before the next are made
    }
    if (whole === byteLength) return;
    const rest = new Uint8Array(4);
    rest.set(new Uint8Array(buffer, byteOffset + whole, byteLength - whole));
    queue.writeBuffer(slice.buffer, slice.offset + at + whole, rest);
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

  /** One command buffer: the dispatches in one pass, then copies, then what is read of their results. */
  async runAndRead(
    dispatches: readonly Dispatch[],
    reads: readonly GpuSlice[],
    copies: readonly Copy[] = [],
  ): Promise<Uint8Array[]> {
    this.#failures.check();
    const kernels = dispatches.map(({ kernel }) => kernel);
    if (kernels.some((kernel) => !this.pipelines.has(kernel))) await this.prepare(kernels);
    const starts: number[] = [];
    const total = reads.reduce((at, { size }) => (starts.push(at), at + roundUp(size, 4)), 0);
    const staging = total > 0 ? this.#takeReadback(total) : null;
    const submitted = this.#failures.guard(() => {
      const encoder = this.#device.createCommandEncoder();
      if (dispatches.length > 0) this.commands.encode(encoder, dispatches);
      encodeCopies(encoder, copies);
      reads.forEach(({ buffer, offset, size }, i) =>
        encoder.copyBufferToBuffer(buffer, offset, staging!, starts[i], roundUp(size, 4)),
      );
      this.#device.queue.submit([encoder.finish()]);
    });
    const done = staging ? staging.mapAsync(MAP_READ, 0, total) : this.#device.queue.onSubmittedWorkDone();
    done.catch(() => undefined); // when the scopes already know better
    const rested = this.capabilities.software ? restUntil(done) : done;
    rested.catch(() => undefined);
    await submitted;
    await this.#failures.settle(rested);
    if (!staging) return [];
    const mapped = staging.getMappedRange(0, total);
    const bytes = reads.map(({ size }, i) => new Uint8Array(mapped.slice(starts[i], starts[i] + size)));
    staging.unmap();
    this.#returnReadback(staging);
    return bytes;
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
    const count = 2 * dispatches.length;
    const querySet = this.#device.createQuerySet({ type: "timestamp", count });
    const resolved = this.#device.createBuffer({ size: 8 * count, usage: USAGE.queryResolve | USAGE.copySource });
    await this.#failures.guard(() => {
      const encoder = this.#device.createCommandEncoder();
      this.commands.encodeTimed(encoder, dispatches, querySet);
      encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
      this.#device.queue.submit([encoder.finish()]);
    });
    const [bytes] = await this.runAndRead([], [{ buffer: resolved, offset: 0, size: 8 * count }]);
    const times = new BigUint64Array(bytes.buffer);
    querySet.destroy();
    resolved.destroy();
    return dispatches.map((_, i) => Number(times[2 * i + 1] - times[2 * i]));
  }

  #takeReadback(bytes: number): GPUBuffer {
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    const free = this.#readback.get(size)?.pop();
    if (free) return free;
    this.ledger.add("readback", size);
    return this.#device.createBuffer({ label: "readback", size, usage: USAGE.mapRead | USAGE.copyTarget });
  }

  #returnReadback(buffer: GPUBuffer): void {
    const pool = this.#readback.get(buffer.size) ?? [];
    this.#readback.set(buffer.size, pool);
    if (pool.length < 2 && buffer.size <= UPLOAD_PIECE) pool.push(buffer);
    else {
      buffer.destroy();
      this.ledger.remove("readback", buffer.size);
    }
  }

  /** Throws what went wrong on the device since it was last asked. */
  check(): void {
    this.#failures.check();
  }

  /** How many objects there are: what repeats itself leaves these numbers, and the ledger's bytes, as they are. */
  get held(): { readonly buffers: number; readonly bindGroups: number; readonly pipelines: number } {
    const readback = [...this.#readback.values()].reduce((sum, pool) => sum + pool.length, 0);
    return {
      buffers: this.#purposes.size + readback,
      bindGroups: this.commands.keptBindGroups,
      pipelines: this.pipelines.size,
    };
  }

  get closed(): boolean {
    return this.#closed;
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
    for (const [size, pool] of this.#readback) {
      for (const buffer of pool) {
        buffer.destroy();
        this.ledger.remove("readback", size);
      }
    }
    this.#readback.clear();
    this.#device.destroy();
    this.#source.release();
  }
}

/** `size` bytes, from the beginning of one slice to the beginning of another. */
export interface Copy {
  readonly from: GpuSlice;
  readonly to: GpuSlice;
  readonly size: number;
}

function encodeCopies(encoder: GPUCommandEncoder, copies: readonly Copy[]): void {
  for (const { from, to, size } of copies)
    encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, size);
}

/** A part of a slice, in bytes. */
export function part(slice: GpuSlice, offset: number, size: number): GpuSlice {
  return { buffer: slice.buffer, offset: slice.offset + offset, size };
}
