import { defaultFrequencies } from "./rope.ts";

/**
 * Returns the frequencies θ_i / s of position interpolation, [d/2], in radians a token; `factor` is s, a ratio.
 * Dividing frequencies by s equals dividing positions by s. Chen, Wong, Chen, Tian: "Extending Context Window of Large
 * Language Models via Positional Interpolation", 2023 (arXiv:2306.15595), eq. 4.
 */
export function linearFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(base, rotarySize).map((theta) => theta / factor);
}
