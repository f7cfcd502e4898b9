import { among, defineMethod, within, type PositionRule } from "@longctx/core";
import { boundedCache } from "./bounded-cache.ts";

/**
 * StreamingLLM: a query sees the first tokens (the sinks) and the last `window` tokens, itself included; everything
 * between is forgotten, and the sinks stay as near as in a text that just fills the cache. Xiao, Tian, Chen, Han,
 * Lewis: "Efficient Streaming Language Models with Attention Sinks", 2023 (arXiv:2309.17453), section 3.2.
 * `sinks` tokens (at least 0), `window` tokens (at least 1). @throws LongctxError "method"
 */
export const streaming = defineMethod({
  name: "streaming",
  axes: ["visibility", "distance"],
  summary: "See the first tokens and the last ones; the cache is bounded.",
  definition:
    "n visible where 0 ≤ m − n < window, at g = m − n; also where n < sinks, then at g = min(m, sinks + window − 1) − n",
  paper: "Xiao et al. 2023, arXiv:2309.17453, section 3.2",
  deviations:
    "Distances are those of the paper's slots, but no key is rotated twice: recent tokens are met at their true distance, sinks at m − n while the cache fills and at sinks + window − 1 − n from then on. Eviction is exact for every query, also within a chunk. A layer with a sliding window of its own keeps it, and loses sight of the sinks beyond it.",
  parameters: {
    sinks: { about: "first tokens that stay visible", unit: "tokens", default: 4, min: 0, integer: true },
    window: {
      about: "last tokens that are visible, the query's own included",
      unit: "tokens",
      default: null,
      example: 4092,
      min: 1,
      integer: true,
    },
  },
  create: ({ sinks, window }) => {
    const last = sinks + window - 1;
    const slot: PositionRule = { id: `min(m,${last})`, at: (m) => Math.min(m, last) };
    return {
      segments: (segments) =>
        segments
          .flatMap((segment) => {
            const old = within({ ...segment, queryPosition: slot }, { from: window, to: Infinity });
            return [within(segment, { from: -Infinity, to: window }), old && among(old, { from: 0, to: sinks })];
          })
          .filter((segment) => segment !== null),
      span: sinks + window,
      layout: boundedCache(sinks, window),
    };
  },
});
