import { halves } from "@longctx/core";

// ggml's K types: super-blocks of 256 values, cut into sub-blocks whose scales are quantised too. Formats:
// ggml-common.h.

/** The scale of a sub-block; 12 bytes hold eight scales and eight minima of 6 bits each (ggml's get_scale_min_k4). */
function scaleOf(bytes: Uint8Array, at: number, sub: number): number {
  return sub < 4 ? bytes[at + sub] & 63 : (bytes[at + sub + 4] & 15) | ((bytes[at + sub - 4] >> 6) << 4);
}

/** The minimum of a sub-block, from the same 12 bytes. */
function minimumOf(bytes: Uint8Array, at: number, sub: number): number {
  return sub < 4 ? bytes[at + sub + 4] & 63 : (bytes[at + sub + 4] >> 4) | ((bytes[at + sub] >> 6) << 4);
}

/**
 * Q4_K: a super-block holds d, dmin, 12 bytes of scales and 128 bytes of nibbles; 32 bytes of nibbles are two
 * sub-blocks, the first in the low nibbles, the second in the high ones.
 */
export function q4k(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  for (let at = 0, out = 0; at < bytes.length; at += 144, out += 256) {
    const d = half[bytes[at] | (bytes[at + 1] << 8)];
    const dMinimum = half[bytes[at + 2] | (bytes[at + 3] << 8)];
    for (let sub = 0; sub < 8; sub++) {
      const scale = d * scaleOf(bytes, at + 4, sub);
      const minimum = dMinimum * minimumOf(bytes, at + 4, sub);
      const nibbles = at + 16 + (sub >> 1) * 32;
      const shift = (sub & 1) * 4;
      for (let i = 0; i < 32; i++) values[out + sub * 32 + i] = scale * ((bytes[nibbles + i] >> shift) & 15) - minimum;
    }
  }
}

/** Q5_K: as Q4_K, with 32 bytes of fifth bits before the nibbles; bit s of byte i belongs to value i of sub-block s. */
export function q5k(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  for (let at = 0, out = 0; at < bytes.length; at += 176, out += 256) {
    const d = half[bytes[at] | (bytes[at + 1] << 8)];
    const dMinimum = half[bytes[at + 2] | (bytes[at + 3] << 8)];
    for (let sub = 0; sub < 8; sub++) {
      const scale = d * scaleOf(bytes, at + 4, sub);
      const minimum = dMinimum * minimumOf(bytes, at + 4, sub);
      const nibbles = at + 48 + (sub >> 1) * 32;
      const shift = (sub & 1) * 4;
      for (let i = 0; i < 32; i++) {
        const quant = ((bytes[nibbles + i] >> shift) & 15) | (((bytes[at + 16 + i] >> sub) & 1) << 4);
        values[out + sub * 32 + i] = scale * quant - minimum;
      }
    }
  }
}

/**
 * Q6_K: a super-block holds 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales (one for 16 values)
 * and d. Each half of 128 values is four runs of 32: low nibbles of bytes 0–31 and of 32–63, then their high nibbles;
 * the upper bits of the runs are at shifts 0, 2, 4 and 6.
 */
export function q6k(bytes: Uint8Array, values: Float32Array): void {
  const half = halves();
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0, out = 0; at < bytes.length; at += 210, out += 256) {
    const d = half[bytes[at + 208] | (bytes[at + 209] << 8)];
    for (let run = 0; run < 8; run++) {
      const low = at + (run >> 2) * 64 + (run & 1) * 32;
      const lowShift = (run & 2) * 2;
      const high = at + 128 + (run >> 2) * 32;
      const highShift = (run & 3) * 2;
      for (let i = 0; i < 32; i++) {
        const scale = d * signed[at + 192 + run * 2 + (i >> 4)];
        const quant = ((bytes[low + i] >> lowShift) & 15) | (((bytes[high + i] >> highShift) & 3) << 4);
        values[out + run * 32 + i] = scale * (quant - 32);
      }
    }
  }
}
