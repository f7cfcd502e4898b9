import { among, defineMethod, TEXT_POSITION, within, type Choice } from "@longctx/core";
import { isNamed, needsFullLayers, needsLayers } from "./layers.ts";

/**
 * The oracle of token retrieval, a control: each query head sees the k tokens of the whole text that its own exact logits
 * put first, at their true positions. It shows what a budget of k tokens costs, apart from the error of an index.
 * `layers` names the layers that choose; `k`, `window` and `sinks` are in tokens. @throws LongctxError "method"
 */
export const oracle = defineMethod({
  name: "oracle",
  axes: ["visibility", "distance"],
  summary: "A control: each query head sees its k best tokens by exact attention.",
  definition:
    "n visible to head h where 0 ≤ m − n < window, or n < sinks, or, at the layers named, n is among the k tokens with sinks ≤ n ≤ m − window of the largest logits, ties to the smaller n; g = m − n",
  paper: "a control of this project",
  deviations: "none",
  parameters: {
    layers: {
      about: "layers that choose; the others see the first and the last tokens",
      unit: "layers",
      default: "all",
    },
    k: {
      about: "tokens that each query head takes",
      unit: "tokens",
      default: null,
      example: 32,
      min: 0,
      integer: true,
    },
    window: {
      about: "last tokens that are visible without being chosen",
      unit: "tokens",
      default: 0,
      min: 0,
      integer: true,
    },
    sinks: {
      about: "first tokens that are visible without being chosen",
      unit: "tokens",
      default: 0,
      min: 0,
      integer: true,
    },
  },
  create: ({ layers, k, window, sinks }) => ({
    check: (context) => {
      needsFullLayers("oracle")(context);
      needsLayers("oracle", layers, context);
    },
    segments: (segments, { first, count, layer, config }) => {
      if (config.slidingWindows[layer]) return [...segments];
      return segments.flatMap((segment) => {
        const near = within(segment, { from: -Infinity, to: window });
        const old = within(segment, { from: window, to: Infinity });
        const chooses = isNamed(layers, layer);
        const candidates = chooses ? Math.max(0, first + count - window - sinks) : 0;
        const choice: Choice = {
          id: "best tokens",
          size: 1,
          from: sinks,
          candidates,
          count: Math.min(k, candidates),
          asking: { from: first, to: first + count },
          each: { beyond: window },
          share: "none",
          table: segment.table,
          queryPosition: TEXT_POSITION,
          keyPosition: TEXT_POSITION,
        };
        const chosen =
          old && choice.count > 0 ? { ...old, tokens: { choice, ranks: { from: 0, to: choice.count } } } : null;
        return [near, old && among(old, { from: 0, to: sinks }), chosen].filter((one) => one !== null);
      });
    },
    // Layers that choose keep the whole text; the others only what they see.
    layout: ({ layer, chunk, config }) =>
      isNamed(layers, layer) || config.slidingWindows[layer]
        ? undefined
        : { capacity: sinks + window + chunk - 1, pinned: sinks },
  }),
});
