import { defaultFrequencies } from "./rope.ts";

/**
 * Returns the frequencies of NTK-aware scaling, [d/2], in radians a token: plain RoPE with the larger base of
 * `ntkBase`; `factor` is s, a ratio. bloc97, 2023; published in Peng et al., 2023 (YaRN, arXiv:2309.00071), definition
 * 1.
 */
export function ntkFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(ntkBase(base, rotarySize, factor), rotarySize);
}

/**
 * Returns the base b' = b · s^(d/(d−2)) of NTK-aware scaling (definition 1), under which the slowest pair turns as
 * under interpolation by s and the fastest pair as under plain RoPE. With a single pair, which is the fastest, b' is b.
 */
export function ntkBase(base: number, rotarySize: number, factor: number): number {
  return rotarySize === 2 ? base : base * factor ** (rotarySize / (rotarySize - 2));
}
