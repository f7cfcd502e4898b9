import { defineMethod, makeTable } from "@longctx/core";
import { dynamicAlpha, ntkFrequencies } from "@longctx/rope-types";

/**
 * Dynamic NTK: NTK-aware scaling by a factor that grows with the length of the text and is 1 within the trained window
 * T. emozilla: "Dynamically Scaled RoPE", 2023; Peng et al., 2023 (YaRN, arXiv:2309.00071), section 3.3; the growth α
 * is that of Hugging Face transformers.
 * The equations are in dynamic-ntk.ts of @longctx/rope-types, because the core needs them for checkpoints too.
 * `factor` is a ratio of at least 1.
 * @throws LongctxError "method"
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
