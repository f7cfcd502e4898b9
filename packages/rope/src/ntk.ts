import { defineMethod, makeTable } from "@longctx/core";
import { ntkFrequencies } from "@longctx/rope-types";

/**
 * NTK-aware scaling: a larger rotary base, under which the slowest pair turns as slowly as under position interpolation
 * and the fastest pair keeps its speed. bloc97: "NTK-Aware Scaled RoPE", 2023; published in Peng et al., 2023 (YaRN,
 * arXiv:2309.00071), definition 1.
 * The equations are in ntk.ts of @longctx/rope-types, because the core needs them for checkpoints too. `factor` is a
 * ratio of at least 1.
 * @throws LongctxError "method"
 */
export const ntk = defineMethod({
  name: "ntk",
  axes: ["frequencies"],
  summary: "Raise the rotary base, so that slow pairs are interpolated and fast ones are kept.",
  definition: "h(i) = b'^(−2i/d), b' = b · factor^(d/(d−2))",
  paper: "bloc97 2023; Peng et al. 2023, arXiv:2309.00071, definition 1",
  deviations:
    "d is the number of rotated channels, which partial rotary models have fewer of than the head. Some pairs still leave their trained range, so a factor somewhat above longest text over trained window is needed.",
  parameters: {
    factor: { about: "nominal extension, s", unit: "ratio", default: null, example: 4, min: 1 },
  },
  create: ({ factor }) => ({
    frequencies: ({ rope }) => makeTable(ntkFrequencies(rope.base, rope.rotarySize, factor)),
  }),
});
