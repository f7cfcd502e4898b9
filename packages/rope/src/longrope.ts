import { crc32, defineMethod, LongctxError, makeTable } from "@longctx/core";
import { longropeAmplitude, longropeFrequencies } from "@longctx/rope-types";
import { readFactors, type LongropeFactors } from "./longrope-factors.ts";

/**
 * LongRoPE: the frequency of each rotary pair is divided by a divisor of its own, found by search; one list of divisors
 * is for texts within the trained window and another for longer texts. Ding et al.: "LongRoPE: Extending LLM Context
 * Window Beyond 2 Million Tokens", 2024 (arXiv:2402.13753); the switch between the lists and the attention factor are
 * those of Phi-3 in Hugging Face transformers.
 * The equations are in longrope.ts of @longctx/rope-types, because the core needs them for checkpoints too. A program
 * gives the lists, a spec gives the path of a file that holds them.
 * @throws LongctxError "method", "file"
 */
export const longrope = defineMethod(
  {
    name: "longrope",
    axes: ["frequencies", { axis: "temperature", when: "factor ≠ 1", claims: ({ factor }) => factor !== 1 }],
    summary: "Divide each pair by a factor of its own, from one list for short texts and one for long ones.",
    definition:
      "h(i) = θ_i/short_i while the text has at most T tokens, θ_i/long_i beyond; cos and sin times √(1 + ln(factor)/ln T)",
    paper: "Ding et al. 2024, arXiv:2402.13753",
    deviations:
      "The paper keeps the first tokens of a text without interpolation; here, as in transformers, all tokens are alike. The table is a function of the length alone: cached keys are rotated again when the text outgrows T, which transformers answers with a second prefill and llama.cpp with the long list from the start. The attention factor holds at every length.",
    parameters: {
      factors: {
        about:
          "object with two lists of d/2 divisors, short_factor and long_factor (or short and long); in a spec a path that has no comma, no + and no = in it",
        unit: "file",
        default: null,
        example: exampleFactors,
        exampleAbout:
          "invented lists of the shape that searches find (fast pairs kept, slow ones divided by the factor), found by none",
      },
      factor: { about: "longest text over trained window, s", unit: "ratio", default: null, min: 1, example: 4 },
    },
    create: ({ factors: file, factor }) => {
      const factors = readFactors(file);
      return {
        lengthDependent: true,
        fixedAlternative: "a method with one table, such as yarn",
        check: ({ config, trainedWindow }) => {
          checkCount(factors, config.rope.rotarySize);
          if (trainedWindow < 2)
            throw new LongctxError(
              "method",
              `longrope: the attention factor divides by ln T, but the trained window T is ${trainedWindow}; give one of at least 2 tokens (--trained-window).`,
            );
        },
        frequencies: ({ rope, trainedWindow, length }) => {
          checkCount(factors, rope.rotarySize);
          const divisors = length > trainedWindow ? factors.long : factors.short;
          return makeTable(
            longropeFrequencies(rope.base, rope.rotarySize, divisors),
            longropeAmplitude(factor, trainedWindow),
          );
        },
      };
    },
  },
  ({ short, long, factor }: LongropeOptions) => {
    const bytes = new TextEncoder().encode(JSON.stringify([short, long]));
    // A spec is too short for the lists, so the method's spec shows a checksum of the lists in place of a file's path.
    return { factors: { path: `lists-${crc32(bytes).toString(16)}`, content: { short, long } }, factor };
  },
);

/** The options of the function `longrope`, which takes lists where a spec names a file. */
export interface LongropeOptions {
  /** Divisors [d/2] of the frequencies θ_i for texts of at most T tokens. */
  readonly short: readonly number[];
  /** Divisors [d/2] of the frequencies θ_i for texts of more than T tokens. */
  readonly long: readonly number[];
  /** The scaling factor s, the longest text divided by the trained window; a ratio of at least 1. */
  readonly factor: number;
}

/**
 * Invents example lists: divisors of 1 for short texts, and for long texts divisors that rise from 1 to 4 over the
 * first three quarters of the rotary pairs.
 */
function exampleFactors(rotarySize: number): { short_factor: number[]; long_factor: number[] } {
  const pairs = Array.from({ length: rotarySize / 2 }, (_, i) => i);
  return {
    short_factor: pairs.map(() => 1),
    long_factor: pairs.map((i) => Number((4 ** Math.min(1, (8 * i) / (3 * rotarySize))).toFixed(2))),
  };
}

/**
 * Checks the lists against a model.
 * @throws LongctxError "method" unless there is a divisor for each of its d/2 rotary pairs
 */
function checkCount({ path, short }: LongropeFactors, rotarySize: number): void {
  if (short.length !== rotarySize / 2)
    throw new LongctxError(
      "method",
      `longrope: the lists of ${path} have ${short.length} factors, but the model rotates ${rotarySize / 2} pairs of each head; give a factor for each pair.`,
    );
}
