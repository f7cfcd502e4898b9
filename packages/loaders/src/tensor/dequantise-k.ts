import { halves } from "./half.ts";

/** The K types: super-blocks of 256 values in sub-blocks whose scales are quantised too. */

/** Sub-block scale (12 bytes hold eight scales and eight minima of 6 bits each; ggml's get_scale_min_k4). */
function scaleOf(bytes: Uint8Array, at: number, sub: number): number {
  return sub < 4 ? bytes[at + sub] & 63 : (bytes[at + sub + 4] & 15) | ((bytes[at + sub - 4] >> 6) << 4);
}

function minimumOf(bytes: Uint8Array, at: number, sub: number): number {
  return sub < 4 ? bytes[at + sub + 4] & 63 : (bytes[at + sub + 4] >> 4) | ((bytes[at + sub] >> 6) << 4);
}

/** d, dmin, 12 bytes of scales, 128 bytes of nibbles. Each 32 bytes hold two sub-blocks: low nibbles, then high ones. */
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

/** As Q4_K with 32 bytes of fifth bits before the nibbles: bit s of byte i belongs to value i of sub-block s. */
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
 * 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales (one for 16 values), d. In each half of 128
 * values, four runs of 32: nibbles low/low/high/high of bytes 0–31 and 32–63, upper bits at shift 0, 2, 4, 6.
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
