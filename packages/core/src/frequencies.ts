import type { RopeConfig } from "./config.ts";
import { LongctxError, listed } from "./errors.ts";
import type { FrequencyTable } from "./plan.ts";

/**
 * Frequency tables of the rotary types that checkpoints are shipped with, as Hugging Face transformers computes them
 * (`modeling_rope_utils`). Pure functions of base b, rotary size d and the scaling's numbers; `@longctx/rope` builds its
 * methods on them.
 */

export function makeTable(inverse: Float64Array, amplitude = 1): FrequencyTable {
  return { id: `${amplitude}:${inverse.join(",")}`, inverse, amplitude };
}

/** θ_i = b^(−2i/d). */
export function defaultFrequencies(base: number, rotarySize: number): Float64Array {
  return Float64Array.from({ length: rotarySize / 2 }, (_, i) => base ** ((-2 * i) / rotarySize));
}

/** Position interpolation (Chen et al. 2023): θ_i / s. */
export function linearFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  return defaultFrequencies(base, rotarySize).map((frequency) => frequency / factor);
}

/** NTK-aware base scaling: b' = b · s^(d/(d−2)) (YaRN paper, definition 1). */
export function ntkFrequencies(base: number, rotarySize: number, factor: number): Float64Array {
  if (rotarySize === 2) return defaultFrequencies(base, 2); // one pair, and the first never moves
  return defaultFrequencies(base * factor ** (rotarySize / (rotarySize - 2)), rotarySize);
}

/** α of dynamic NTK: factor · n/T − (factor − 1) beyond the window, 1 within it. */
export function dynamicAlpha(factor: number, length: number, window: number): number {
  return length > window ? (factor * length) / window - (factor - 1) : 1;
}

export interface YarnParameters {
  readonly factor: number;
  /** L, positions. */
  readonly window: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly truncate?: boolean;
}

/**
 * YaRN's NTK-by-parts (Peng et al. 2023, eq. 19–23) in the form of every implementation: the ramp is linear in the index
 * of the pair between the dimensions that turn β_fast and β_slow times in L positions.
 */
export function yarnFrequencies(base: number, rotarySize: number, parameters: YarnParameters): Float64Array {
  const { factor, window, betaFast = 32, betaSlow = 1, truncate = true } = parameters;
  const turning = (turns: number) => (rotarySize * Math.log(window / (turns * 2 * Math.PI))) / (2 * Math.log(base));
  let low = turning(betaFast);
  let high = turning(betaSlow);
  if (truncate) [low, high] = [Math.floor(low), Math.ceil(high)];
  low = Math.max(low, 0);
  high = Math.min(high, rotarySize - 1);
  if (low === high) high += 0.001;
  return defaultFrequencies(base, rotarySize).map((frequency, i) => {
    const ramp = Math.min(Math.max((i - low) / (high - low), 0), 1);
    return (frequency / factor) * ramp + frequency * (1 - ramp);
  });
}

/** YaRN's √(1/t) = 0.1·m·ln s + 1 (eq. 22; m as DeepSeek's mscale). */
export function yarnAmplitude(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1;
}

/** Llama 3.1's bands: long wavelengths divided by the factor, short ones kept, a smooth step between. */
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

/** LongRoPE's attention factor √(1 + ln s / ln L). */
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
        `The RoPE type ${String(rope.type)} is not known; longctx has ${listed(["default", "linear", "dynamic", "yarn", "longrope", "llama3"])}.`,
      );
  }
}
