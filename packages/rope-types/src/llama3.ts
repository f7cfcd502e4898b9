import { yarnPaperFrequencies } from "./yarn.ts";

/** The bands of Llama 3.1's scaling. */
export interface Llama3Bands {
  /** What slow pairs are divided by, a ratio. */
  readonly factor: number;
  /** T, tokens. */
  readonly window: number;
  /** `low_freq_factor`: pairs that turn less often within T are divided. */
  readonly low: number;
  /** `high_freq_factor`: pairs that turn more often within T are kept. */
  readonly high: number;
}

/**
 * Llama 3.1's scaling. Dubey et al.: "The Llama 3 Herd of Models", 2024 (arXiv:2407.21783), and the published model
 * code, [d/2], radians a token: eq. 17-20 of YaRN with `low` for α and `high` for β, without YaRN's temperature.
 */
export function llama3Frequencies(base: number, rotarySize: number, bands: Llama3Bands): Float64Array {
  const { factor, window, low: betaSlow, high: betaFast } = bands;
  return yarnPaperFrequencies(base, rotarySize, { factor, window, betaSlow, betaFast });
}
