import { defaultFrequencies } from "./rope.ts";

/**
 * NTK-aware scaling. bloc97, 2023; written down in Peng et al., 2023 (YaRN, arXiv:2309.00071), definition 1: RoPE with
 * the base b', [d/2], radians a token. `factor` is s, a ratio.
 */
export function ntkFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(ntkBase(base, rotarySize, factor), rotarySize);
}

/**
 * b' = b · s^(d/(d−2)) (definition 1), under which the slowest pair turns as under interpolation by s, and the fastest
 * as under RoPE. With a single pair, which is the fastest, b' is b.
 */
export function ntkBase(base: number, rotarySize: number, factor: number): number {
  return rotarySize === 2 ? base : base * factor ** (rotarySize / (rotarySize - 2));
}
