import type { ModelSource } from "../weights/model-source.ts";
import { Graph, type EncodedGraph } from "./graph.ts";
import { afterAttention, firstNorm, queriesKeysValues, type Stream } from "./layers.ts";

/**
 * Everything of the decoder but attention, as one graph of L + 1 stages chosen by the input `stage`:
 *   stage 0      hidden → norm → q, k, v of layer 0
 *   stage i      attended → output product, feed-forward of layer i − 1 → norm → q, k, v of layer i
 *   stage L      the same of the last layer → final norm
 * The caller computes attention between two stages, so that hooks can look there. Inputs: `hidden` [1, T, hidden],
 * `attended` [1, T, H·D], `stage` []. Outputs: `stream` [1, T, hidden] (the residual stream) and `projected`
 * [1, T, (H + 2K)·D] or [1, T, hidden]. The weights lie inside the branches, where
 * onnxruntime packs them when it loads the graph.
 */
export function stagesGraph(source: ModelSource): EncodedGraph {
  const graph = new Graph();
  graph.input("hidden", 3);
  graph.input("attended", 3);
  graph.input("stage", 0, "int64");
  choose(graph, source, 0, source.config.layerCount, "");
  graph.output("stream");
  graph.output("projected");
  return graph.encode();
}

/** Chooses one of the stages [first, last] by a binary tree of `If`, so that a call pays for log₂ of their number. */
function choose(graph: Graph, source: ModelSource, first: number, last: number, prefix: string): void {
  const outputs = [`${prefix}stream`, `${prefix}projected`] as const;
  if (first === last) return stage(graph, source, first, outputs);
  const middle = (first + last + 1) >> 1;
  const branch = (from: number, to: number): Graph => {
    const name = `s${from}_${to}_`;
    const inner = new Graph(name);
    choose(inner, source, from, to, name);
    inner.output(`${name}stream`);
    inner.output(`${name}projected`);
    return inner;
  };
  const below = graph.op("Less", ["stage", graph.constant(BigInt64Array.of(BigInt(middle)), [])]);
  graph.ops("If", [below], outputs, {
    graphs: { then_branch: branch(first, middle - 1), else_branch: branch(middle, last) },
  });
}

function stage(graph: Graph, source: ModelSource, index: number, [stream, projected]: readonly [string, string]): void {
  const next: Stream =
    index === 0 ? firstNorm(graph, source, "hidden") : afterAttention(graph, source, index - 1, "hidden", "attended");
  const result = index < source.config.layerCount ? queriesKeysValues(graph, source, index, next.normed) : next.normed;
  graph.op("Identity", [next.stream], {}, stream);
  graph.op("Identity", [result], {}, projected);
}
