import { defineMethod, type PositionRule } from "@longctx/core";
import { boundedCache, lambdaMask } from "./lambda-mask.ts";

/**
 * StreamingLLM: a query sees the first tokens of the text (attention sinks) and the last `window` tokens, its own
 * included. The KV cache evicts the tokens between, and the sinks stay at the distance that they had when the cache
 * became full.
 * Xiao, Tian, Chen, Han, Lewis: "Efficient Streaming Language Models with Attention Sinks", 2023 (arXiv:2309.17453),
 * section 3.2.
 * `sinks` is the number of first tokens, at least 0; `window` is in tokens, at least 1.
 * @throws LongctxError "method"
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
    // In the paper's full cache the query is in the last slot, and a slot's number is its position.
    const last = sinks + window - 1;
    const slot: PositionRule = { id: `min(m,${last})`, at: (m) => Math.min(m, last) };
    return {
      segments: (segments) => lambdaMask(segments, { sinks, window }, { queryPosition: slot }),
      span: sinks + window,
      layout: boundedCache(sinks, window),
    };
  },
});
