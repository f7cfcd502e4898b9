import type { ModelSource } from "../weights/model-source.ts";
import { attention, declarePlan, type AttentionShape } from "./attention-graph.ts";
import { Graph, type EncodedGraph } from "./graph.ts";
import { afterAttention, firstNorm, queriesKeysValues } from "./layers.ts";

/**
 * The whole decoder but its head as one graph, one call a chunk: `hidden` [1, T, hidden] in, `normed` [1, R, hidden] of
 * the rows listed in `rows` out, behind the final norm; keys and values go into and come from the cache as in `attention`. `planOf` says
 * which of the shapes each layer has.
 */
export function wholeGraph(
  source: ModelSource,
  shapes: readonly AttentionShape[],
  planOf: readonly number[],
): EncodedGraph {
  const { queryHeads, headSize, layerCount } = source.config;
  const graph = new Graph();
  graph.input("hidden", 3);
  graph.input("positions", 2, "int64");
  graph.input("rows", 1, "int64");
  shapes.forEach((shape, plan) => declarePlan(graph, plan, shape));
  const flat = graph.integers(1, -1, queryHeads * headSize);
  let next = firstNorm(graph, source, "hidden");
  for (let layer = 0; layer < layerCount; layer++) {
    const plan = planOf[layer];
    const projected = queriesKeysValues(graph, source, layer, next.normed);
    const byHead = attention(graph, source.config, shapes[plan], { plan, layer }, projected)!;
    let attended = graph.op("Reshape", [byHead, flat]);
    let { stream } = next;
    if (layer === layerCount - 1) {
      // Nothing after the last attention mixes tokens, so only the rows asked for go on.
      [attended, stream] = [attended, stream].map((value) =>
        graph.op("Gather", [value, "rows"], { ints: { axis: 1 } }),
      ) as [string, string];
    }
    next = afterAttention(graph, source, layer, stream, attended);
  }
  graph.op("Identity", [next.normed], {}, "normed");
  graph.output("normed");
  return graph.encode();
}
