/**
 * Returns the frequencies of plain RoPE, θ_i = b^(−2i/d), [d/2], in radians a token, the fastest pair first. `base` is
 * b, and `rotarySize` is d, the rotated channels of a head, an even number. Su et al.: "RoFormer: Enhanced Transformer
 * with Rotary Position Embedding", 2021 (arXiv:2104.09864), section 3.2.2, with pairs i counted from 0.
 */
export function defaultFrequencies(base: number, rotarySize: number): Float64Array {
  return Float64Array.from({ length: rotarySize / 2 }, (_, i) => base ** ((-2 * i) / rotarySize));
}
