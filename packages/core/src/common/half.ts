/** The table of `halves` as float32 bits. */
export function halfBits(): Uint32Array {
  return new Uint32Array(halves().buffer);
}

let table: Float32Array<ArrayBuffer> | undefined;

/**
 * The float32 value of every IEEE 754 half-precision number, indexed by its 16 bits; the first call makes the table
 * (256 KiB).
 */
export function halves(): Float32Array<ArrayBuffer> {
  if (table) return table;
  const bits = new Uint32Array(0x10000);
  for (let half = 0; half < 0x10000; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) {
      // A subnormal half, fraction · 2^−24, is a normal float32.
      bits[half] = new Uint32Array(Float32Array.of(fraction * 2 ** -24).buffer)[0] | sign;
    } else {
      bits[half] = sign | ((exponent === 0x1f ? 0xff : exponent + 112) << 23) | (fraction << 13);
    }
  }
  table = new Float32Array(bits.buffer);
  return table;
}

const ONE = new Float32Array(1);
const ONE_BITS = new Uint32Array(ONE.buffer);

/**
 * Writes numbers as IEEE 754 half-precision numbers, rounded to the nearest, ties to even; what is larger than the
 * largest half, 65504, becomes that, as on the GPU.
 */
export function toHalves(numbers: Float32Array, into: Uint16Array): void {
  const bits = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i] >>> 16) & 0x8000;
    const size = bits[i] & 0x7fff_ffff;
    if (size >= 0x477f_f000) {
      into[i] = sign | (size > 0x7f80_0000 ? 0x7e00 : 0x7bff); // a NaN stays one
    } else if (size >= 0x3880_0000) {
      into[i] = sign | ((size - 0x3800_0000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
    } else {
      // Below 2^−14 halves are multiples of 2^−24, which is the last place of a float32 from 0.5 to 1.
      ONE_BITS[0] = size;
      ONE[0] += 0.5;
      into[i] = sign | (ONE_BITS[0] - 0x3f00_0000);
    }
  }
}

/** Reads half-precision numbers. */
export function fromHalves(codes: Uint16Array, into: Float32Array): void {
  const values = halves();
  for (let i = 0; i < codes.length; i++) into[i] = values[codes[i]];
}
