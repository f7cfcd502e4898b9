import { ROPE_TYPES, type RopeConfig } from "../model/config.ts";
import { LongctxError, listed } from "../common/errors.ts";
import type { FrequencyTable } from "../method/plan.ts";

/**
 * Frequency tables of the rotary types that checkpoints are shipped with, as Hugging Face transformers computes them
 * (`modeling_rope_utils`); `@longctx/rope` builds its methods on them. Pure functions of the base b, the rotary size d
 * (rotated channels of a head, even), the trained window T (tokens) and a scaling's own numbers. Frequencies are [d/2],
 * radians a token, the fastest pair first.
 */

/** A table of frequencies [d/2], radians a token, and the factor on cos and sin; equal numbers make equal ids. */
export function makeTable(inverse: Float64Array, amplitude = 1): FrequencyTable {
  return { id: `${amplitude}:${inverse.join(",")}`, inverse, amplitude };
}

/** RoPE (Su et al. 2021, arXiv:2104.09864): θ_i = b^(−2i/d), [d/2], radians a token. */
export function defaultFrequencies(base: number, rotarySize: number): Float64Array {
  return Float64Array.from({ length: rotarySize / 2 }, (_, i) => base ** ((-2 * i) / rotarySize));
}

/** Position interpolation (Chen et al. 2023, arXiv:2306.15595, eq. 4): θ_i / s, [d/2], radians a token. */
export function linearFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(base, rotarySize).map((frequency) => frequency / factor);
}

/** b' = b · s^(d/(d−2)), the base of NTK-aware scaling by s; b itself for a single pair, the first, which never changes. */
export function ntkBase(base: number, rotarySize: number, factor: number): number {
  return rotarySize === 2 ? base : base * factor ** (rotarySize / (rotarySize - 2));
}

/** NTK-aware scaling (bloc97 2023; YaRN paper, arXiv:2309.00071, definition 1): b'^(−2i/d), [d/2], radians a token. */
export function ntkFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(ntkBase(base, rotarySize, factor), rotarySize);
}

/**
 * Dynamic NTK (emozilla 2023; the rule is that of transformers): the factor of NTK-aware scaling for a text of `length`
 * tokens after training on `window` = T, α = factor · length/T − (factor − 1) beyond T and 1 within it.
 */
export function dynamicAlpha(factor: number, length: number, window: number): number {
  return length > window ? (factor * length) / window - (factor - 1) : 1;
}

/** What YaRN's authors and every implementation take where nothing else is said (arXiv:2309.00071, section 3.2). */
export const YARN_DEFAULTS = { betaFast: 32, betaSlow: 1, truncate: true } as const;

/** What the ends of YaRN's ramp depend on; `YARN_DEFAULTS` fills in what is missing. */
export interface YarnRamp {
  /** T, tokens. */
  readonly window: number;
  /** Turns within T: pairs with at least β_fast are kept, those with at most β_slow divided by the factor. */
  readonly betaFast?: number;
  readonly betaSlow?: number;
  /** Round the ends outwards to whole pairs. */
  readonly truncate?: boolean;
}

export interface YarnParameters extends YarnRamp {
  /** s, a ratio. */
  readonly factor: number;
}

/** The pairs, as fractions of an index, that turn β_fast and β_slow times in T tokens: where YaRN's ramp begins and ends. */
export function yarnCorners(base: number, rotarySize: number, ramp: YarnRamp): { low: number; high: number } {
  const {
    window,
    betaFast = YARN_DEFAULTS.betaFast,
    betaSlow = YARN_DEFAULTS.betaSlow,
    truncate = YARN_DEFAULTS.truncate,
  } = ramp;
  const turning = (turns: number) => (rotarySize * Math.log(window / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  const [low, high] = [turning(betaFast), turning(betaSlow)];
  return truncate ? { low: Math.floor(low), high: Math.ceil(high) } : { low, high };
}

/**
 * YaRN's NTK-by-parts (Peng et al. 2023, arXiv:2309.00071, eq. 17-20) in the form of every implementation, [d/2], radians
 * a token: θ_i up to the ramp's beginning, θ_i / s from its end on, linear in the index of the pair between.
 */
export function yarnFrequencies(base: number, rotarySize: number, parameters: YarnParameters): Float64Array {
  const { factor } = parameters;
  const corners = yarnCorners(base, rotarySize, parameters);
  const low = Math.max(corners.low, 0);
  const end = Math.min(corners.high, rotarySize - 1);
  const high = low === end ? end + 0.001 : end;
  return defaultFrequencies(base, rotarySize).map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}

/** YaRN's factor on cos and sin, √(1/t) = 0.1·m·ln s + 1 (eq. 22; m is DeepSeek's mscale). Scores grow by its square. */
export function yarnAmplitude(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/**
 * Llama 3.1's bands (Dubey et al. 2024, arXiv:2407.21783; published model code), [d/2], radians a token: pairs that turn
 * more than `high` times in `window` = T tokens are kept, those that turn less than `low` times divided by the factor, a
 * smooth step between.
 */
export function llama3Frequencies(
  base: number,
  rotarySize: number,
  p: { factor: number; window: number; low: number; high: number },
): Float64Array {
  return defaultFrequencies(base, rotarySize).map((frequency) => {
    const wavelength = (2 * Math.PI) / frequency;
    if (wavelength < p.window / p.high) return frequency;
    if (wavelength > p.window / p.low) return frequency / p.factor;
    const smooth = (p.window / wavelength - p.low) / (p.high - p.low);
    return (1 - smooth) * (frequency / p.factor) + smooth * frequency;
  });
}

/** LongRoPE's factor on cos and sin, √(1 + ln s / ln T), as Phi-3 has it in transformers; `window` = T, tokens. */
export function longropeAmplitude(factor: number, window: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(window));
}

/** Does the checkpoint's own table change with the length of the text? */
export function isLengthDependent(rope: RopeConfig): boolean {
  return rope.type === "dynamic" || rope.type === "longrope";
}

/** The checkpoint's own table for a text of `length` tokens. `maxPositions` is `max_position_embeddings`. */
export function checkpointFrequencies(rope: RopeConfig, maxPositions: number, length: number): FrequencyTable {
  const { base, rotarySize } = rope;
  const need = (value: number | undefined, name: string): number => {
    if (value === undefined)
      throw new LongctxError(
        "config",
        `The RoPE type ${rope.type} needs ${name}, which the model's config does not give.`,
      );
    return value;
  };
  switch (rope.type) {
    case "default": {
      const table = defaultFrequencies(base, rotarySize);
      return makeTable(
        rope.frequencyDivisors ? table.map((frequency, i) => frequency / rope.frequencyDivisors![i]) : table,
      );
    }
    case "linear":
      return makeTable(linearFrequencies(base, rotarySize, need(rope.factor, "factor")));
    case "dynamic":
      return makeTable(
        ntkFrequencies(base, rotarySize, dynamicAlpha(need(rope.factor, "factor"), length, maxPositions)),
      );
    case "yarn": {
      const window = rope.originalMaxPositions ?? maxPositions;
      const factor = rope.factor ?? maxPositions / window;
      const { mscale, mscaleAllDim } = rope;
      const formula =
        mscale && mscaleAllDim
          ? yarnAmplitude(factor, mscale) / yarnAmplitude(factor, mscaleAllDim)
          : yarnAmplitude(factor);
      // A beta of 0 means the default, as in transformers.
      const [betaFast, betaSlow] = [rope.betaFast || undefined, rope.betaSlow || undefined];
      const table = yarnFrequencies(base, rotarySize, { factor, window, betaFast, betaSlow, truncate: rope.truncate });
      return makeTable(table, rope.attentionFactor ?? formula);
    }
    case "longrope": {
      const window = rope.originalMaxPositions ?? maxPositions;
      const factors = length > window ? rope.longFactors : rope.shortFactors;
      if (factors?.length !== rotarySize / 2) {
        throw new LongctxError(
          "config",
          `The RoPE type longrope needs ${rotarySize / 2} short and long factors, but the config gives ${factors?.length ?? "none"}.`,
        );
      }
      const amplitude = rope.attentionFactor ?? longropeAmplitude(rope.factor ?? maxPositions / window, window);
      return makeTable(
        defaultFrequencies(base, rotarySize).map((frequency, i) => frequency / factors[i]),
        amplitude,
      );
    }
    case "llama3":
      return makeTable(
        llama3Frequencies(base, rotarySize, {
          factor: need(rope.factor, "factor"),
          window: need(rope.originalMaxPositions, "original_max_position_embeddings"),
          low: need(rope.lowFreqFactor, "low_freq_factor"),
          high: need(rope.highFreqFactor, "high_freq_factor"),
        }),
      );
    default:
      throw new LongctxError(
        "config",
        `The RoPE type ${String(rope.type)} is not known; longctx has ${listed(ROPE_TYPES)}.`,
      );
  }
}
