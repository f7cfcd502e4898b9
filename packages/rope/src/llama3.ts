import { defineMethod, LongctxError, makeTable } from "@longctx/core";
import { llama3Frequencies } from "@longctx/rope-types";

/**
 * Llama 3.1's RoPE scaling: rotary pairs of long wavelength (relative to the trained window) are divided by the factor,
 * pairs of short wavelength are kept, and pairs between are blended. Dubey et al.: "The Llama 3 Herd of Models", 2024
 * (arXiv:2407.21783), and the published model code.
 * The equations are in llama3.ts of @longctx/rope-types, because the core needs them for checkpoints too. `factor` is a
 * ratio of at least 1; `low` and `high` are turns within the trained window, `low` the smaller.
 * @throws LongctxError "method"
 */
export const llama3 = defineMethod({
  name: "llama3",
  axes: ["frequencies"],
  summary: "Divide pairs of long wavelength by the factor, keep short ones, a smooth step between.",
  definition:
    "r_i = T·θ_i/2π turns; h(i) = θ_i where r_i > high, θ_i/factor where r_i < low, between (1−γ)·θ_i/factor + γ·θ_i with γ = (r_i − low)/(high − low)",
  paper: "Dubey et al. 2024, arXiv:2407.21783, and the published model code",
  deviations:
    "T is the trained window of the model instead of a constant of 8192. Llama 3.1 was trained with it (factor 8); on other models it is used without training. The same as `yarn:form=paper` with low and high for its betas and no attention factor.",
  parameters: {
    factor: { about: "what slow pairs are divided by", unit: "ratio", default: null, min: 1, example: 8 },
    low: {
      about: "pairs that turn less often within the trained window are divided",
      unit: "turns",
      default: 1,
      min: 0.01,
    },
    high: { about: "pairs that turn more often are kept", unit: "turns", default: 4, min: 0.01 },
  },
  create: ({ factor, low, high }) => {
    if (high <= low) {
      throw new LongctxError(
        "method",
        `llama3: high is ${high} and low ${low}, but high has to be the larger; the pairs that are kept turn more often.`,
      );
    }
    return {
      frequencies: ({ rope, trainedWindow: window }) =>
        makeTable(llama3Frequencies(rope.base, rope.rotarySize, { factor, window, low, high })),
    };
  },
});
