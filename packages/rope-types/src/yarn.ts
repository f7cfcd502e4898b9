import { defaultFrequencies } from "./rope.ts";

/*
 * YaRN. Peng, Quesnelle, Fan, Shippole: "YaRN: Efficient Context Window Extension of Large Language Models", 2023
 * (arXiv:2309.00071), eq. 17-22. Pairs i are counted from 0; T is the trained window (the paper's L), s the factor, β
 * and α are betaFast and betaSlow. Positions stay what they are (eq. 19).
 */

/**
 * β = 32, α = 1 (section 3.2), and corners at whole pairs: what every implementation takes unless a config says more.
 */
export const YARN_DEFAULTS = { betaFast: 32, betaSlow: 1, truncate: true } as const;

/**
 * Where the blend between kept and interpolated pairs begins and ends; `YARN_DEFAULTS` stands for what is not given.
 */
export interface YarnRamp {
  /** T, tokens. */
  readonly window: number;
  /** β, turns within T: pairs that turn at least so often keep their frequency. */
  readonly betaFast?: number;
  /** α, turns within T: pairs that turn at most so often are divided by the factor. */
  readonly betaSlow?: number;
  /** Round the corners outwards to whole pairs; the paper's form has no corners. */
  readonly truncate?: boolean;
}

export interface YarnParameters extends YarnRamp {
  /** s, a ratio. */
  readonly factor: number;
}

/** h(θ_i) as the paper prints it, [d/2], radians a token: the blend is linear in the turns of a pair. */
export function yarnPaperFrequencies(base: number, rotarySize: number, parameters: YarnParameters): Float64Array {
  const { factor, window, betaFast = YARN_DEFAULTS.betaFast, betaSlow = YARN_DEFAULTS.betaSlow } = parameters;
  return defaultFrequencies(base, rotarySize).map((theta) => {
    const wavelength = (2 * Math.PI) / theta; // λ_i, tokens a turn
    const turns = window / wavelength; // r(i) = T/λ_i (eq. 17)
    const kept = keptShare(turns, betaSlow, betaFast);
    return blend(theta, factor, kept, 1 - kept);
  });
}

/** γ(r) (eq. 18), the share of a pair that turns r times within T that keeps its frequency. */
function keptShare(turns: number, alpha: number, beta: number): number {
  if (turns >= beta) return 1;
  if (turns < alpha) return 0;
  return (turns - alpha) / (beta - alpha);
}

/** (1 − γ) · θ_i/s + γ · θ_i (eq. 20); `kept` is γ and `divided` is 1 − γ. */
function blend(theta: number, factor: number, kept: number, divided: number): number {
  return (theta / factor) * divided + theta * kept;
}

/**
 * h(θ_i) in the form of every implementation, that of the paper's authors included, [d/2], radians a token: 1 − γ is
 * linear in the index of a pair, 0 up to the low corner and 1 from the high corner on.
 */
export function yarnFrequencies(base: number, rotarySize: number, parameters: YarnParameters): Float64Array {
  const { factor } = parameters;
  const corners = yarnCorners(base, rotarySize, parameters);
  const low = Math.max(corners.low, 0);
  const end = Math.min(corners.high, rotarySize - 1);
  const high = low === end ? end + 0.001 : end; // so that the next line does not divide by 0
  return defaultFrequencies(base, rotarySize).map((theta, i) => {
    const divided = Math.min(Math.max((i - low) / (high - low), 0), 1); // 1 − γ
    return blend(theta, factor, 1 - divided, divided);
  });
}

/**
 * The indices, in fractions, of the pairs that turn β and α times within T: eq. 17 with θ_i = b^(−2i/d), solved for i.
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
 * √(1/t) = 0.1·m·ln s + 1 (eq. 22), the factor on cos and sin of queries and keys, so that scores are divided by the
 * temperature t (eq. 21); m is DeepSeek's mscale, 1 in the paper.
 */
export function yarnAmplitude(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}
