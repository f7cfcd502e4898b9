import type { GpuSlice } from "./kernel.ts";

/** `size` bytes, from the beginning of one slice to the beginning of another. */
export interface Copy {
  readonly from: GpuSlice;
  readonly to: GpuSlice;
  readonly size: number;
}

export function encodeCopies(encoder: GPUCommandEncoder, copies: readonly Copy[]): void {
  for (const { from, to, size } of copies)
    encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, size);
}

/** A part of a slice, in bytes. */
export function part(slice: GpuSlice, offset: number, size: number): GpuSlice {
  return { buffer: slice.buffer, offset: slice.offset + offset, size };
}

/** Bytes that one call hands to the queue: the driver keeps a copy until they are written. */
const UPLOAD_PIECE = 2 ** 26;

/** Whole words, and zeros behind what is left of the last one. */
export function writeInPieces(queue: GPUQueue, slice: GpuSlice, data: ArrayBufferView, at: number): void {
  const { buffer, byteOffset, byteLength } = data;
  const whole = byteLength - (byteLength % 4);
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
