import { defineMethod, LongctxError, makeTable, type LengthContext } from "@longctx/core";
import { YARN_DEFAULTS, yarnAmplitude, yarnFrequencies, yarnPaperFrequencies } from "@longctx/rope-types";

/**
 * YaRN: rotary pairs that turn often within the trained window keep their frequency, pairs that turn at most once are
 * interpolated, pairs between are blended, and the softmax is sharpened. Peng, Quesnelle, Fan, Shippole: "YaRN:
 * Efficient Context Window Extension of Large Language Models", 2023 (arXiv:2309.00071), eq. 17-22.
 * The equations are in yarn.ts of @longctx/rope-types, because the core needs them for checkpoints too. `factor` is a
 * ratio of at least 1, the betas are in turns, `truncate` is 0 or 1.
 * @throws LongctxError "method"
 */
export const yarn = defineMethod({
  name: "yarn",
  axes: [
    "frequencies",
    { axis: "temperature", when: "attention_factor ≠ 1", claims: (values) => attentionFactorOf(values) !== 1 },
  ],
  summary: "Interpolate slow pairs, keep fast ones, blend between, and sharpen the softmax.",
  definition:
    "h(i) = θ_i/s · ramp_i + θ_i · (1 − ramp_i); form=code: ramp_i = clamp((i − l)/(h − l)), l and h the pairs that turn beta_fast and beta_slow times in T; form=paper: 1 − ramp_i = clamp((T·θ_i/2π − beta_slow)/(beta_fast − beta_slow)); cos and sin times attention_factor",
  paper: "Peng et al. 2023, arXiv:2309.00071, eq. 17-22",
  deviations:
    "By default the ramp is linear in the index of the pair, as in the authors' code and every implementation; form=paper makes it linear in the number of turns (eq. 18), where truncate has nothing to round. beta_fast and beta_slow are the paper's β and α. The attention factor multiplies cos and sin of queries and keys at every length, so scores grow by its square. attention_factor=1 leaves the temperature axis to another method.",
  parameters: {
    factor: { about: "longest text over trained window, s", unit: "ratio", default: null, example: 4, min: 1 },
    beta_fast: {
      about: "pairs that turn at least this often within the trained window are kept",
      unit: "turns",
      default: YARN_DEFAULTS.betaFast,
      min: 0.01,
    },
    beta_slow: {
      about: "pairs that turn at most this often are interpolated",
      unit: "turns",
      default: YARN_DEFAULTS.betaSlow,
      min: 0.01,
    },
    attention_factor: { about: "factor on cos and sin", unit: "number", default: "0.1·ln(factor)+1", min: 0.01 },
    truncate: {
      about: "round the ramp's ends to whole pairs (form=code)",
      unit: "flag",
      default: YARN_DEFAULTS.truncate ? 1 : 0,
    },
    form: {
      about: "the ramp is linear in the pair's index (code) or in its turns (paper, eq. 18)",
      unit: "choice",
      choices: ["code", "paper"],
      default: "code",
    },
  },
  create: ({ factor, beta_fast: betaFast, beta_slow: betaSlow, attention_factor: given, truncate, form }) => {
    checkBetas(betaFast, betaSlow, form);
    if (form === "paper" && truncate === 0)
      throw new LongctxError(
        "method",
        "yarn: truncate is 0, but the ramp of form=paper has no ends to round; leave truncate out, or use form=code.",
      );
    const amplitude = attentionFactorOf({ factor, attention_factor: given });
    const inverse = ({ rope: { base, rotarySize }, trainedWindow: window }: LengthContext) =>
      form === "paper"
        ? yarnPaperFrequencies(base, rotarySize, { factor, window, betaFast, betaSlow })
        : yarnFrequencies(base, rotarySize, { factor, window, betaFast, betaSlow, truncate: truncate === 1 });
    return {
      frequencies: (context) => makeTable(inverse(context), amplitude),
    };
  },
});

/** Returns the factor on cos and sin: the one given, else 0.1 · ln s + 1 (eq. 22). */
function attentionFactorOf(values: { readonly factor: number; readonly attention_factor?: number }): number {
  return values.attention_factor ?? yarnAmplitude(values.factor);
}

/** Checks the ends of the interpolation ramp. @throws LongctxError "method" when beta_fast is not above beta_slow */
function checkBetas(betaFast: number, betaSlow: number, form: "code" | "paper"): void {
  if (betaFast < betaSlow)
    throw new LongctxError(
      "method",
      `yarn: beta_fast is ${betaFast} and beta_slow ${betaSlow}, but the fast pairs turn more often; exchange the two.`,
    );
  if (betaFast === betaSlow && form === "paper")
    throw new LongctxError(
      "method",
      `yarn: beta_fast and beta_slow are both ${betaFast}, but the paper's ramp divides by their difference; make beta_fast larger, or use form=code.`,
    );
}
