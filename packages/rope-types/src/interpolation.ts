import { defaultFrequencies } from "./rope.ts";

/**
 * Position interpolation. Chen, Wong, Chen, Tian: "Extending Context Window of Large Language Models via Positional
 * Interpolation", 2023 (arXiv:2306.15595), eq. 4: the position m/s at θ_i is the position m at θ_i / s, [d/2], radians
 * a token. `factor` is s, a ratio.
 */
export function linearFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(base, rotarySize).map((theta) => theta / factor);
}
