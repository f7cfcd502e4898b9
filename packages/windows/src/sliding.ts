import { defineMethod, within } from "@longctx/core";
import { boundedCache } from "./lambda-mask.ts";

/**
 * Sliding window attention: a query sees the last `window` tokens, its own included, at their true distances. Beltagy,
 * Peters, Cohan: "Longformer: The Long-Document Transformer", 2020 (arXiv:2004.05150), section 3.1.
 * `window` is in tokens, at least 1.
 * @throws LongctxError "method"
 */
export const sliding = defineMethod({
  name: "sliding",
  axes: ["visibility"],
  summary: "See the last tokens only; the cache is bounded.",
  definition: "n visible where 0 ≤ m − n < window",
  paper: "Beltagy et al. 2020, arXiv:2004.05150, section 3.1",
  deviations:
    "The window lies before the query, not around it. It goes for every layer; a layer with a narrower window of its own keeps that.",
  parameters: {
    window: {
      about: "last tokens that are visible, the query's own included",
      unit: "tokens",
      default: null,
      example: 4096,
      min: 1,
      integer: true,
    },
  },
  create: ({ window }) => ({
    segments: (segments) =>
      segments
        .map((segment) => within(segment, { from: -Infinity, to: window })) // keeps distances m − n < window
        .filter((segment) => segment !== null),
    span: window,
    layout: boundedCache(0, window),
  }),
});
