import { defineMethod, makeTable } from "@longctx/core";
import { linearFrequencies } from "@longctx/rope-types";

/**
 * Position interpolation (PI): every distance is divided by the factor, so that a text of factor · T tokens has only
 * the distances of the trained window T. Chen, Wong, Chen, Tian: "Extending Context Window of Large Language Models via
 * Positional Interpolation", 2023 (arXiv:2306.15595), eq. 4.
 * The equations are in interpolation.ts of @longctx/rope-types, because the core needs them for checkpoints too.
 * `factor` is a ratio of at least 1.
 * @throws LongctxError "method"
 */
export const interpolation = defineMethod({
  name: "interpolation",
  axes: ["frequencies"],
  summary: "Divide every rotary frequency by the factor.",
  definition: "h(i) = θ_i / factor",
  paper: "Chen et al. 2023, arXiv:2306.15595, eq. 4",
  deviations:
    "The frequencies are divided instead of the positions, which is the same angle; positions stay whole numbers.",
  parameters: {
    factor: { about: "longest text over trained window, s", unit: "ratio", default: null, example: 4, min: 1 },
  },
  create: ({ factor }) => ({
    frequencies: ({ rope }) => makeTable(linearFrequencies(rope.base, rope.rotarySize, factor)),
  }),
});
