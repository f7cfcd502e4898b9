import { defaultFrequencies } from "./rope.ts";

/**
 * Returns LongRoPE's frequencies θ_i / λ_i, [d/2], in radians a token; `divisors` are the λ_i [d/2], which a search has
 * found. A checkpoint has one list for texts of at most T tokens and another for longer texts. Ding et al.: "LongRoPE:
 * Extending LLM Context Window Beyond 2 Million Tokens", 2024 (arXiv:2402.13753), section 3.
 */
export function longropeFrequencies(base: number, rotarySize: number, divisors: readonly number[]): Float64Array {
  return defaultFrequencies(base, rotarySize).map((theta, i) => theta / divisors[i]);
}

/**
 * Returns LongRoPE's factor on cos and sin, √(1 + ln s / ln T), as Phi-3 has it in Hugging Face transformers; `factor`
 * is s and `window` is T in tokens.
 */
export function longropeAmplitude(factor: number, window: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(window));
}
