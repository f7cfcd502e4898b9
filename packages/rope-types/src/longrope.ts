import { defaultFrequencies } from "./rope.ts";

/**
 * LongRoPE. Ding et al.: "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens", 2024 (arXiv:2402.13753),
 * section 3: θ_i / λ_i, [d/2], radians a token. `divisors` are λ_i [d/2], found by search; a checkpoint has a list for
 * texts of at most T tokens and another for longer texts.
 */
export function longropeFrequencies(base: number, rotarySize: number, divisors: readonly number[]): Float64Array {
  return defaultFrequencies(base, rotarySize).map((theta, i) => theta / divisors[i]);
}

/**
 * The factor on cos and sin, √(1 + ln s / ln T), as Phi-3 has it in Hugging Face transformers; `window` is T, tokens.
 */
export function longropeAmplitude(factor: number, window: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(window));
}
