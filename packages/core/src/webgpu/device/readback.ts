import type { GpuSlice } from "./kernel.ts";
import type { Ledger } from "./ledger.ts";
import { roundUp, USAGE } from "./numbers.ts";

/** Bytes that are read at once: a buffer to read through is memory that both sides see, which is scarce. */
export const READ_PIECE = 2 ** 26;

/** Buffers to read through, by size; a step that repeats itself makes none. */
export class Readback {
  readonly #device: GPUDevice;
  readonly #ledger: Ledger;
  readonly #pools = new Map<number, GPUBuffer[]>();

  constructor(device: GPUDevice, ledger: Ledger) {
    this.#device = device;
    this.#ledger = ledger;
  }

  take(bytes: number): GPUBuffer {
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    const free = this.#pools.get(size)?.pop();
    if (free) return free;
    const made = this.#device.createBuffer({ label: "readback", size, usage: USAGE.mapRead | USAGE.copyTarget });
    this.#ledger.add("readback", size);
    return made;
  }

  /** A buffer of so many bytes for a use that begins now, null for none; it is dropped when that throws. */
  lend(bytes: number, use: (buffer: GPUBuffer | null) => void): GPUBuffer | null {
    const buffer = bytes > 0 ? this.take(bytes) : null;
    try {
      use(buffer);
    } catch (error) {
      if (buffer) this.drop(buffer);
      throw error;
    }
    return buffer;
  }

  /** For the next read of its size. */
  giveBack(buffer: GPUBuffer): void {
    const pool = this.#pools.get(buffer.size) ?? [];
    this.#pools.set(buffer.size, pool);
    if (pool.length < 2) pool.push(buffer);
    else this.drop(buffer);
  }

  /** Of a read that failed: nobody knows what state it is in. */
  drop(buffer: GPUBuffer): void {
    this.#ledger.remove("readback", buffer.size);
    buffer.destroy();
  }

  get held(): number {
    return [...this.#pools.values()].reduce((sum, pool) => sum + pool.length, 0);
  }

  release(): void {
    for (const pool of this.#pools.values()) for (const buffer of pool) this.drop(buffer);
    this.#pools.clear();
  }
}

/** A stretch of one of several slices. */
export interface ReadPiece {
  /** Which slice. */
  readonly index: number;
  /** Bytes from its beginning, and how many. */
  readonly from: number;
  readonly size: number;
  /** Where it begins among those read with it. */
  readonly at: number;
}

/** Slices in order, cut into batches of at most `most` bytes, a multiple of 4. */
export function readBatches(reads: readonly Pick<GpuSlice, "size">[], most: number): ReadPiece[][] {
  const batches: ReadPiece[][] = [];
  let at = most;
  reads.forEach(({ size }, index) => {
    for (let from = 0; from < size;) {
      if (at >= most) {
        batches.push([]);
        at = 0;
      }
      const piece = { index, from, size: Math.min(size - from, most - at), at };
      batches[batches.length - 1].push(piece);
      from += piece.size;
      at += roundUp(piece.size, 4);
    }
  });
  return batches;
}

export function batchBytes(batch: readonly ReadPiece[]): number {
  const last = batch.at(-1);
  return last ? last.at + roundUp(last.size, 4) : 0;
}

export function encodeReads(
  encoder: GPUCommandEncoder,
  batch: readonly ReadPiece[],
  reads: readonly GpuSlice[],
  to: GPUBuffer,
): void {
  for (const { index, from, size, at } of batch)
    encoder.copyBufferToBuffer(reads[index].buffer, reads[index].offset + from, to, at, roundUp(size, 4));
}

/** Milliseconds: short beside what kernels take on a processor. */
const NAP = 0.5;

/** The parts of its globals by which Node is known; libraries give pages a `setImmediate` too. */
interface Globals {
  readonly process?: { readonly versions?: { readonly node?: string } };
  readonly setImmediate?: (act: (value: unknown) => void) => unknown;
}

/**
 * Waits for what a software adapter computes. Dawn in Node looks for results in a loop that never rests, and would take
 * a third of two cores from the kernels that it waits for; naps in that loop leave them the processor. A page waits by
 * itself, and must not sleep.
 */
export async function restUntil<T>(result: Promise<T>): Promise<T> {
  const { process, setImmediate: soon } = globalThis as Globals;
  if (!process?.versions?.node || !soon) return result;
  const nobody = new Int32Array(new SharedArrayBuffer(4));
  const nap = async (): Promise<void> => {
    Atomics.wait(nobody, 0, 0, NAP);
    await new Promise((resolve) => void soon(resolve));
  };
  const answer = result.then(
    () => true,
    () => true,
  );
  while (!(await Promise.race([answer, nap()])));
  return result;
}
