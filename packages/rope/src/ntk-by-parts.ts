import { defineMethod } from "@longctx/core";
import { yarn } from "./yarn.ts";

/**
 * NTK-by-parts: YaRN's frequencies without YaRN's temperature. bloc97, 2023; published in Peng et al., 2023 (YaRN,
 * arXiv:2309.00071), definition 2. `factor` is a ratio of at least 1.
 * @throws LongctxError "method"
 */
export const ntkByParts = defineMethod({
  name: "ntk-by-parts",
  axes: ["frequencies"],
  summary: "Interpolate slow pairs, keep fast ones, blend between: YaRN without its temperature.",
  definition: "h(i) = θ_i/s · ramp_i + θ_i · (1 − ramp_i), as yarn with attention_factor=1",
  paper: "bloc97 2023; Peng et al. 2023, arXiv:2309.00071, definition 2",
  deviations:
    "The form of the implementations, with β = 32 and α = 1; `yarn:factor,form=paper,attention_factor=1` has the paper's ramp and other betas.",
  parameters: {
    factor: { about: "longest text over trained window, s", unit: "ratio", default: null, min: 1, example: 4 },
  },
  create: ({ factor }) => yarn({ factor, attention_factor: 1 }),
});
