import { yarnPaperFrequencies } from "./yarn.ts";

/** The parameters of Llama 3.1's RoPE scaling. */
export interface Llama3Bands {
  /** The ratio by which the frequencies of slow pairs are divided. */
  readonly factor: number;
  /** The trained window T in tokens. */
  readonly window: number;
  /** `low_freq_factor`: pairs that make fewer turns than this within T are divided by the factor. */
  readonly low: number;
  /** `high_freq_factor`: pairs that make more turns than this within T keep their frequency. */
  readonly high: number;
}

/**
 * Returns the frequencies of Llama 3.1's RoPE scaling, [d/2], in radians a token: YaRN's eq. 17-20 with `low` for α and
 * `high` for β, without YaRN's temperature. Dubey et al.: "The Llama 3 Herd of Models", 2024 (arXiv:2407.21783), and
 * the published model code.
 */
export function llama3Frequencies(base: number, rotarySize: number, bands: Llama3Bands): Float64Array {
  const { factor, window, low: betaSlow, high: betaFast } = bands;
  return yarnPaperFrequencies(base, rotarySize, { factor, window, betaSlow, betaFast });
}
