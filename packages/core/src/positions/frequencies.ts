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

/** h(i): the angular frequency of each rotary pair, and the factor on cos and sin (YaRN's attention factor). */
export interface FrequencyTable {
  /** Equal ids mean equal tables; backends cache by it. */
  readonly id: string;
  /** Radians a position, [d/2]: `inv_freq` of Hugging Face. */
  readonly inverse: Float64Array;
  /** Multiplies cos and sin of queries and keys, so scores grow by its square: the attention factor, or mscale. */
  readonly amplitude: number;
}

/** A table of frequencies [d/2], radians a token, and the factor on cos and sin; equal numbers make equal ids. */
export function makeTable(inverse: Float64Array, amplitude = 1): FrequencyTable {
  return { id: `${amplitude}:${inverse.join(",")}`, inverse, amplitude };
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
