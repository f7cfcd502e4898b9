import { defineMethod, makeTable } from "@longctx/core";
import { dynamicAlpha, ntkFrequencies } from "@longctx/rope-types";

/**
 * Dynamic NTK: NTK-aware scaling whose strength follows the length n of the text; within the trained window T nothing
 * changes. emozilla, "Dynamically Scaled RoPE", 2023; Peng et al. 2023 (YaRN, arXiv:2309.00071), section 3.3; the rule
 * for α is that of Hugging Face transformers.
 * `factor` is a ratio of at least 1. @throws LongctxError "method"
 * The equations: dynamic-ntk.ts of @longctx/rope-types.
 */
export const dynamicNtk = defineMethod({
  name: "dynamic-ntk",
  axes: ["frequencies"],
  summary: "NTK-aware scaling that grows with the text and leaves short texts alone.",
  definition: "h(i) = b'^(−2i/d), b' = b · α^(d/(d−2)), α = max(1, factor·N/T − (factor − 1)) for a text of N tokens",
  paper: "emozilla 2023; Peng et al. 2023, arXiv:2309.00071, section 3.3",
  deviations:
    "The table is a function of the length alone: the prompt's length for the whole prompt, the current length for each generated token, with all cached keys rotated again. Transformers keeps old rotations in its cache and depends on what was computed before; vLLM fixes n at factor · T.",
  parameters: {
    factor: { about: "how fast α grows with the length", unit: "ratio", default: null, example: 2, min: 1 },
  },
  create: ({ factor }) => ({
    lengthDependent: true,
    fixedAlternative: "ntk with a fixed factor",
    frequencies: ({ rope, trainedWindow, length }) =>
      makeTable(ntkFrequencies(rope.base, rope.rotarySize, dynamicAlpha(factor, length, trainedWindow))),
  }),
});
