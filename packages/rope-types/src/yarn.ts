import { defaultFrequencies } from "./rope.ts";

/*
 * The equations of YaRN. Peng, Quesnelle, Fan, Shippole: "YaRN: Efficient Context Window Extension of Large Language
 * Models", 2023 (arXiv:2309.00071), eq. 17-22. Rotary pairs i are counted from 0; T is the trained window (the paper's
 * L), s the factor, β and α are betaFast and betaSlow. Positions are not changed (eq. 19).
 */

/**
 * The defaults of all implementations where a config gives no value: β = 32, α = 1 (section 3.2), ramp ends at whole
 * pairs.
 */
export const YARN_DEFAULTS = { betaFast: 32, betaSlow: 1, truncate: true } as const;

/**
 * The ramp between rotary pairs that keep their frequency and pairs that are interpolated; `YARN_DEFAULTS` fills in
 * what is missing.
 */
export interface YarnRamp {
  /** The trained window T in tokens. */
  readonly window: number;
  /** β, in turns: pairs that make at least this many turns within T keep their frequency. */
  readonly betaFast?: number;
  /** α, in turns: pairs that make at most this many turns within T are divided by the factor. */
  readonly betaSlow?: number;
  /**
   * Whether the ends of the ramp are rounded outwards to whole pairs; the paper's form of the ramp has no ends to
   * round.
   */
  readonly truncate?: boolean;
}

/** The parameters of YaRN's frequencies: the ramp and the scaling factor. */
export interface YarnParameters extends YarnRamp {
  /** The scaling factor s, a ratio. */
  readonly factor: number;
}

/**
 * Returns YaRN's frequencies h(θ_i) as the paper defines them, [d/2], in radians a token: the blend of kept and
 * interpolated frequency is linear in the number of turns that a pair makes within the trained window.
 */
export function yarnPaperFrequencies(base: number, rotarySize: number, parameters: YarnParameters): Float64Array {
  const { factor, window, betaFast = YARN_DEFAULTS.betaFast, betaSlow = YARN_DEFAULTS.betaSlow } = parameters;
  return defaultFrequencies(base, rotarySize).map((theta) => {
    const wavelength = (2 * Math.PI) / theta; // λ_i, tokens in one turn of pair i
    const turns = window / wavelength; // r(i) = T/λ_i, turns of pair i within T (eq. 17)
    const kept = keptShare(turns, betaSlow, betaFast);
    return blend(theta, factor, kept, 1 - kept);
  });
}

/**
 * Returns the ramp γ(r) (eq. 18): the share of the original frequency that is kept by a pair that makes r turns within
 * T.
 */
function keptShare(turns: number, alpha: number, beta: number): number {
  if (turns >= beta) return 1;
  if (turns < alpha) return 0;
  return (turns - alpha) / (beta - alpha);
}

/** Returns the blended frequency (1 − γ) · θ_i/s + γ · θ_i (eq. 20); `kept` is γ and `divided` is 1 − γ. */
function blend(theta: number, factor: number, kept: number, divided: number): number {
  return (theta / factor) * divided + theta * kept;
}

/**
 * Returns YaRN's frequencies h(θ_i) in the form of all implementations, the authors' own included, [d/2], in radians a
 * token: the interpolated share 1 − γ is linear in the index i of a pair, from 0 at the ramp's low end to 1 at its high
 * end.
 */
export function yarnFrequencies(base: number, rotarySize: number, parameters: YarnParameters): Float64Array {
  const { factor } = parameters;
  const corners = yarnCorners(base, rotarySize, parameters);
  const low = Math.max(corners.low, 0);
  const end = Math.min(corners.high, rotarySize - 1);
  const high = low === end ? end + 0.001 : end; // 0.001 keeps the ramp from dividing by 0
  return defaultFrequencies(base, rotarySize).map((theta, i) => {
    const divided = Math.min(Math.max((i - low) / (high - low), 0), 1); // 1 − γ, the interpolated share of pair i
    return blend(theta, factor, 1 - divided, divided);
  });
}

/**
 * Returns the ramp's ends: the indices, in fractions, of the pairs that make β and α turns within T, which is eq. 17
 * with θ_i = b^(−2i/d) solved for i.
 */
export function yarnCorners(base: number, rotarySize: number, ramp: YarnRamp): { low: number; high: number } {
  const {
    window,
    betaFast = YARN_DEFAULTS.betaFast,
    betaSlow = YARN_DEFAULTS.betaSlow,
    truncate = YARN_DEFAULTS.truncate,
  } = ramp;
  const indexOf = (turns: number) => (rotarySize * Math.log(window / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [low, high] = [indexOf(betaFast), indexOf(betaSlow)];
  return truncate ? { low: Math.floor(low), high: Math.ceil(high) } : { low, high };
}

/**
 * Returns YaRN's factor on cos and sin of queries and keys, √(1/t) = 0.1·m·ln s + 1 (eq. 22), which divides attention
 * scores by the temperature t (eq. 21); m is DeepSeek's `mscale`, 1 in the paper.
 */
export function yarnAmplitude(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}
