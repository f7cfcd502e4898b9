import { constantPosition, defineMethod } from "@longctx/core";
import { boundedCache, lambdaMask } from "./lambda-mask.ts";

/**
 * LM-Infinite: a Λ-shaped mask, under which a query sees the first tokens and the last `window` tokens, and a limit on
 * distances: first tokens that have left the window count as `window` tokens away. Han et al.: "LM-Infinite: Zero-Shot
 * Extreme Length Generalization for Large Language Models", 2023 (arXiv:2308.16137), section 4.
 * `sinks` is the number of first tokens, at least 0; `window` is in tokens, at least 1.
 * @throws LongctxError "method"
 */
export const lmInfinite = defineMethod({
  name: "lm-infinite",
  axes: ["visibility", "distance"],
  summary: "See the first tokens at the window's distance, and the last ones; the cache is bounded.",
  definition: "n visible where 0 ≤ m − n < window, at g = m − n; also where n < sinks, then at g = window",
  paper: "Han et al. 2023, arXiv:2308.16137, section 4",
  deviations:
    "What is not visible is not kept either; the authors' code keeps all keys. The optional attention to the best tokens of the middle is left out. The mask is exact for every query, also within a chunk. A layer with a sliding window of its own keeps it, and loses sight of the first tokens beyond it.",
  parameters: {
    sinks: {
      about: "first tokens that stay visible; 10 to 100 in the paper",
      unit: "tokens",
      default: 10,
      min: 0,
      integer: true,
    },
    window: {
      about: "last tokens that are visible, the query's own included; the largest distance",
      unit: "tokens",
      default: null,
      example: 4086,
      min: 1,
      integer: true,
    },
  },
  create: ({ sinks, window }) => {
    const far = { queryPosition: constantPosition(window), keyPosition: constantPosition(0) };
    return {
      segments: (segments) => lambdaMask(segments, { sinks, window }, far),
      span: window + 1,
      layout: boundedCache(sinks, window),
    };
  },
});
