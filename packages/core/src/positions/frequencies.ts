import {
  defaultFrequencies,
  dynamicAlpha,
  linearFrequencies,
  llama3Frequencies,
  longropeAmplitude,
  longropeFrequencies,
  ntkFrequencies,
  yarnAmplitude,
  yarnFrequencies,
} from "@longctx/rope-types";
import { LongctxError, listed } from "../common/errors.ts";
import { ROPE_TYPES, type RopeConfig } from "../model/config.ts";

/** A frequency table: the angular frequency h(i) of each rotary pair, and an amplitude, the factor on cos and sin. */
export interface FrequencyTable {
  /** The key under which a backend caches what it computes from the table; equal ids mean equal tables. */
  readonly id: string;
  /** The frequencies h(i) [d/2], radians a position: `inv_freq` of Hugging Face. */
  readonly inverse: Float64Array;
  /** The factor on cos and sin of queries and keys (attention factor, mscale), so scores grow by its square. */
  readonly amplitude: number;
}

/**
 * Makes a frequency table of `inverse`, h(i) [d/2] in radians a position, and gives it an id that spells out its
 * numbers.
 */
export function makeTable(inverse: Float64Array, amplitude = 1): FrequencyTable {
  return { id: `${amplitude}:${inverse.join(",")}`, inverse, amplitude };
}

/** Returns whether the frequencies of a checkpoint's own RoPE type depend on the length of the text. */
export function isLengthDependent(rope: RopeConfig): boolean {
  return rope.type === "dynamic" || rope.type === "longrope";
}

/**
 * Returns the frequency table of a checkpoint's own RoPE type for a text of `length` tokens, as Hugging Face
 * transformers computes it (`modeling_rope_utils`); `maxPositions` is `max_position_embeddings`.
 * @throws LongctxError "config" when the config lacks a number that the RoPE type needs
 */
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
      // A GGUF file stores a divisor for each frequency, which acts as LongRoPE's factors do.
      const divisors = rope.frequencyDivisors;
      return makeTable(
        divisors ? longropeFrequencies(base, rotarySize, divisors) : defaultFrequencies(base, rotarySize),
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
      // A config with both of DeepSeek's mscale values asks for the quotient of two attention factors.
      const formula =
        mscale && mscaleAllDim
          ? yarnAmplitude(factor, mscale) / yarnAmplitude(factor, mscaleAllDim)
          : yarnAmplitude(factor);
      // Hugging Face transformers treats a beta of 0 as not given.
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
      return makeTable(longropeFrequencies(base, rotarySize, factors), amplitude);
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
