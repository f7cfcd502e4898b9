import {
  defineMethod,
  instantiate,
  LongctxError,
  makeTable,
  yarnAmplitude,
  yarnFrequencies,
  type Method,
  type ParameterValues,
} from "@longctx/core";

/**
 * YaRN: pairs that turn often within the trained window are kept, those that turn less than once are interpolated, those
 * between are blended, and the softmax is sharpened. Peng, Quesnelle, Fan, Shippole: "YaRN: Efficient Context Window
 * Extension of Large Language Models", 2023 (arXiv:2309.00071), eq. 17-22.
 */
export const yarnMethod = defineMethod({
  name: "yarn",
  axes: ["frequencies", "temperature"],
  summary: "Interpolate slow pairs, keep fast ones, blend between, and sharpen the softmax.",
  paper: "Peng et al. 2023, arXiv:2309.00071, eq. 17-22",
  deviations:
    "The ramp is linear in the index of the pair, as in the authors' code and every implementation, not in the number of turns (eq. 18). beta_fast and beta_slow are the paper's β and α. The attention factor multiplies cos and sin of queries and keys at every length, so scores grow by its square. attention_factor=1 leaves the temperature axis to another method.",
  parameters: {
    factor: { about: "longest text over trained window, s", unit: "ratio", default: null, min: 1 },
    beta_fast: {
      about: "pairs that turn at least this often within the trained window are kept",
      unit: "turns",
      default: 32,
      min: 0.01,
    },
    beta_slow: { about: "pairs that turn at most this often are interpolated", unit: "turns", default: 1, min: 0.01 },
    attention_factor: { about: "factor on cos and sin", unit: "number", default: "0.1·ln(factor)+1", min: 0.01 },
    truncate: { about: "round the ramp's ends to whole pairs", unit: "flag", default: 1 },
  },
  create: (
    { factor = 1, beta_fast: betaFast = 32, beta_slow: betaSlow = 1, attention_factor: given, truncate = 1 },
    spec,
  ): Method => {
    if (betaFast < betaSlow) {
      throw new LongctxError(
        "method",
        `yarn: beta_fast is ${betaFast} and beta_slow ${betaSlow}, but the fast pairs turn more often; exchange the two.`,
      );
    }
    const amplitude = given ?? yarnAmplitude(factor); // √(1/t) = 0.1 ln s + 1 (eq. 22)
    return {
      spec,
      axes: amplitude === 1 ? ["frequencies"] : ["frequencies", "temperature"],
      frequencies: ({ rope, trainedWindow }) =>
        makeTable(
          yarnFrequencies(rope.base, rope.rotarySize, {
            factor,
            window: trainedWindow,
            betaFast,
            betaSlow,
            truncate: truncate === 1,
          }),
          amplitude,
        ),
    };
  },
});

export type YarnOptions = ParameterValues<Pick<typeof yarnMethod.parameters, "factor">> &
  Partial<ParameterValues<typeof yarnMethod.parameters>>;

/** YaRN by `factor` (a ratio, at least 1); betas in turns, `truncate` 0 or 1. @throws LongctxError "method" */
export function yarn(parameters: YarnOptions): Method {
  return instantiate(yarnMethod, parameters);
}
