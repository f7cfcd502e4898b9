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

/** Reads half-precision numbers. */
export function fromHalves(codes: Uint16Array, into: Float32Array): void {
  const values = halves();
  for (let i = 0; i < codes.length; i++) into[i] = values[codes[i]];
}
