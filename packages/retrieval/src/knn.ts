import {
  among,
  constantPosition,
  defineMethod,
  LongctxError,
  oncePerModel,
  within,
  type Choice,
  type ChunkContext,
  type GatedBranch,
  type ModelContext,
  type Segment,
} from "@longctx/core";
import { isNamed, needsFullLayers, needsLayers } from "./layers.ts";
import { HNSW, hnswIndex } from "./nearest/hnsw.ts";

/**
 * Token retrieval: at the layers named, each query head also sees the k tokens behind the window whose keys fit it best,
 * in one softmax with the first and the last tokens (as in Bertsch et al., "Unlimiformer: Long-Range Transformers with
 * Unlimited Length Input", 2023, arXiv:2305.01625), or in a softmax of its own that a gate mixes with theirs (Wu et al.,
 * "Memorizing Transformers", 2022, arXiv:2203.08913, section 3.2).
 * With `index=hnsw` tokens that are read alone search a graph of keys (Malkov, Yashunin 2016, arXiv:1603.09320).
 * `k` is a number of tokens; `window` and `sinks` are in tokens; `gate` and `scale` replace the checkpoint's.
 * @throws LongctxError "method"
 */
export const knn = defineMethod({
  name: "knn",
  axes: ["visibility", "distance", { axis: "memory", when: "merge=gate", claims: ({ merge }) => merge === "gate" }],
  summary: "See the first tokens, the last ones, and the tokens between whose keys fit each query head best.",
  definition:
    "n visible where 0 ≤ m − n < window, or n < sinks, or, at the layers named, n is among the k tokens with sinks ≤ n ≤ m − window of the largest logits of head h, ties to the smaller n (nearly so with index=hnsw); g = m − n within the window, window for older first tokens, and for the tokens found 0 (none), window (constant) or m − n (true, then for first tokens too); one softmax (joint), or out = σ(b_h)·found + (1 − σ(b_h))·rest (gate)",
  paper: "Bertsch et al. 2023, arXiv:2305.01625; Wu et al. 2022, arXiv:2203.08913, section 3.2 (gate)",
  deviations:
    "Unlimiformer searches hidden states of an encoder once for all layers; here each layer's own keys are searched, ranked by the logits of attention itself at the positions at which they are met. Memorizing Transformers trains the layer that retrieves, its gates and its scales; without a checkpoint that has them (`self_attn.knn_gate`, `self_attn.knn_scale`, one a query head) gate and scale have to be given. An empty store reads zeros, and the gate still applies. Cosines are of the vectors that attention multiplies, rotated and with the table's amplitude on the rotated channels. A layer with a sliding window of its own keeps it, and retrieves nothing. What layers that retrieve nothing no longer see is not kept there. With index=hnsw chunks of a prompt search all keys, and each token that is read alone the graph, to which keys are added as they leave the window.",
  parameters: {
    layers: {
      about: "layers that retrieve; the others see the first and the last tokens",
      unit: "layers",
      default: "all",
    },
    k: { about: "tokens that each query head takes; 0 for none", unit: "tokens", default: 32, min: 0, integer: true },
    window: {
      about: "last tokens that are always visible, the query's own included",
      unit: "tokens",
      default: null,
      example: 2048,
      min: 1,
      integer: true,
    },
    sinks: { about: "first tokens that stay visible", unit: "tokens", default: 4, min: 0, integer: true },
    merge: {
      about: "one softmax over all (joint), or one over the tokens found, mixed with the other by a gate (gate)",
      unit: "choice",
      choices: ["joint", "gate"],
      default: "joint",
    },
    keys: {
      about: "logits of tokens found: q·k/√D (raw), or scale·cos(q, k) (normalized, under merge=gate)",
      unit: "choice",
      choices: ["raw", "normalized"],
      default: "raw under joint, normalized under gate",
    },
    positions: {
      about: "distance of the tokens found: 0 (none), window (constant), or as in the text (true)",
      unit: "choice",
      choices: ["none", "constant", "true"],
      default: "constant",
    },
    gate: {
      about: "gate of every head before the sigmoid",
      unit: "number",
      default: "the checkpoint's gates",
      min: -1000,
      max: 1000,
    },
    scale: { about: "scale of every head's cosines", unit: "number", default: "the checkpoint's scales", min: 0 },
    index: {
      about: "what generated tokens search: all keys (exact), or a graph of them (hnsw, on cpu, with hnswlib-node)",
      unit: "choice",
      choices: ["exact", "hnsw"],
      default: "exact",
    },
    M: { about: "neighbours of a key in the graph (hnsw)", unit: "number", default: HNSW.M, min: 2, max: 256, integer: true }, // prettier-ignore
    efConstruction: {
      about: "candidates while a key is added (hnsw)",
      unit: "number",
      default: HNSW.efConstruction,
      min: 2,
      integer: true,
    },
    ef: {
      about: "candidates while a query is searched (hnsw)",
      unit: "number",
      default: HNSW.ef,
      min: 1,
      integer: true,
    },
  },
  create: (values) => {
    const { layers, window, sinks, merge, positions, k } = values;
    const { keys = merge === "gate" ? "normalized" : "raw" } = values;
    if (merge === "joint" && keys === "normalized")
      throw new LongctxError(
        "method",
        "knn: keys=normalized makes logits of another scale than those of the first and last tokens, with which merge=joint shares a softmax; write merge=gate, or keys=raw.",
      );
    const nearest = values.index === "hnsw" ? hnswIndex(values) : undefined;
    const retrieves = ({ layer, config }: Pick<ChunkContext, "layer" | "config">) =>
      k > 0 && !config.slidingWindows[layer] && isNamed(layers, layer);
    const learned = oncePerModel((context) => {
      const ofLayers = (name: "gate" | "scale", given: number | undefined) =>
        Array.from({ length: context.config.layerCount }, (_, layer) =>
          retrieves({ layer, config: context.config }) ? learnedOf(context, layer, name, given) : NOT_LEARNED,
        );
      return {
        gates: ofLayers("gate", values.gate),
        scales: keys === "normalized" ? ofLayers("scale", values.scale) : undefined,
      };
    });
    const found = (segment: Segment, { first, count }: ChunkContext, scales?: readonly Float32Array[]): Segment[] => {
      const candidates = Math.max(0, first + count - window - sinks);
      if (candidates === 0) return [];
      const place = {
        true: segment,
        constant: { queryPosition: constantPosition(window), keyPosition: constantPosition(0) },
        none: { queryPosition: constantPosition(0), keyPosition: constantPosition(0) },
      }[positions];
      const { queryPosition, keyPosition } = place;
      const choice: Choice = {
        id: "nearest tokens",
        size: 1,
        from: sinks,
        candidates,
        count: Math.min(k, candidates),
        asking: { from: first, to: first + count },
        each: { beyond: window },
        share: "none",
        table: segment.table,
        queryPosition,
        keyPosition,
        scales,
        index: nearest,
      };
      return [{ ...segment, queryPosition, keyPosition, tokens: { choice, ranks: { from: 0, to: choice.count } } }];
    };
    return {
      check: (context) => {
        needsFullLayers("knn")(context);
        needsLayers("knn", layers, context);
        if (merge === "gate") learned(context);
        nearest?.create(1).dispose(); // a library that is not there is better missed before a text is read
      },
      segments: (segments, chunk) => {
        if (chunk.config.slidingWindows[chunk.layer]) return [...segments];
        return segments.flatMap((segment) => {
          const far =
            positions === "true" ? {} : { queryPosition: constantPosition(window), keyPosition: constantPosition(0) };
          const old = within({ ...segment, ...far }, { from: window, to: Infinity });
          const seen = [within(segment, { from: -Infinity, to: window }), old && among(old, { from: 0, to: sinks })];
          const joint = merge === "joint" && retrieves(chunk) ? found(segment, chunk) : [];
          return [...seen.filter((one) => one !== null), ...joint];
        });
      },
      gated: (segment, chunk): GatedBranch | undefined => {
        if (merge === "joint" || !retrieves(chunk)) return undefined;
        const { gates, scales } = learned(chunk);
        return { segments: found(segment, chunk, scales), gates, scales };
      },
      span: positions === "true" ? undefined : window + 1,
      fixedTable:
        nearest && positions === "true"
          ? "index=hnsw keeps keys as one table turns them, so with positions=true the table has to stay; write positions=constant, or index=exact"
          : undefined,
      // Layers that retrieve keep the whole text; the others only what they see.
      layout: (context) =>
        retrieves(context) || context.config.slidingWindows[context.layer]
          ? undefined
          : { capacity: sinks + window + context.chunk - 1, pinned: sinks },
    };
  },
});

/** What layers that do not retrieve have learned for it. */
const NOT_LEARNED = new Float32Array(0);

/**
 * Returns what the checkpoint has learned for token retrieval in a layer, or `given` for all heads, [H].
 * @throws LongctxError "method" where there is neither
 */
function learnedOf(
  { config, learned }: ModelContext,
  layer: number,
  name: "gate" | "scale",
  given: number | undefined,
): Float32Array {
  if (given !== undefined) return new Float32Array(config.queryHeads).fill(given);
  const values = learned?.get(`layers.${layer}.method.knn_${name}`);
  if (values?.length === config.queryHeads) return values;
  throw new LongctxError(
    "method",
    values
      ? `knn: the checkpoint has ${values.length} numbers knn_${name} in layer ${layer}, but the model has ${config.queryHeads} query heads; use the checkpoint that they were trained with, or give ${name}.`
      : `knn: merge=gate needs self_attn.knn_${name} of layer ${layer}, which the checkpoint does not have; use one that was trained with token retrieval, or give ${name}.`,
  );
}
