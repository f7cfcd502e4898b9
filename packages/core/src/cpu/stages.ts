import type { Precision } from "../backend.ts";
import type { ModelConfig } from "../config.ts";
import type { Weights } from "../weights.ts";
import { Graph } from "./graph.ts";
import { operand, product, type Operand } from "./product.ts";

/**
 * Everything of the decoder but attention, as one graph of L + 1 stages chosen by the input `stage`:
 *   stage 0      hidden → norm → q, k, v of layer 0
 *   stage i      attended → output product, feed-forward of layer i − 1 → norm → q, k, v of layer i
 *   stage L      the same of the last layer → final norm → logits
 * Inputs: `hidden` [1, T, hidden], `attended` [1, T, H·D], `stage` []. Outputs: `stream` [1, T, hidden] (the residual
 * stream) and `projected` [1, T, (H + 2K)·D] or [1, T, V]. One graph keeps one thread pool and one copy of the weights;
 * the weights lie inside the branches because onnxruntime packs them ahead of time only there.
 */
export function stagesGraph(config: ModelConfig, weights: Weights, precision: Precision): Uint8Array {
  const graph = new Graph();
  graph.input("hidden", 3);
  graph.input("attended", 3);
  graph.input("stage", 0, "int64");
  choose(graph, config, weights, precision, 0, config.layerCount, ["stream", "projected"]);
  graph.output("stream");
  graph.output("projected");
  return graph.encode();
}

/** Stages [first, last] as a binary tree of `If`, whose depth is what a call pays for the choice. */
function choose(graph: Graph, config: ModelConfig, weights: Weights, precision: Precision, first: number, last: number, outputs: readonly [string, string]): void {
  if (first === last) return stage(graph, config, weights, precision, first, outputs);
  const middle = (first + last + 1) >> 1;
  const branch = (from: number, to: number): Graph => {
    const name = `s${from}_${to}_`;
    const inner = new Graph(name);
    const names = [`${name}stream`, `${name}projected`] as const;
    choose(inner, config, weights, precision, from, to, names);
    for (const output of names) inner.output(output);
    return inner;
  };
  const below = graph.op("Less", ["stage", graph.constant(BigInt64Array.of(BigInt(middle)), [])]);
  graph.ops("If", [below], outputs, { graphs: { then_branch: branch(first, middle - 1), else_branch: branch(middle, last) } });
}

function stage(graph: Graph, config: ModelConfig, weights: Weights, precision: Precision, index: number, [stream, projected]: readonly [string, string]): void {
  const { hiddenSize, queryHeads, headSize, feedForwardSize, vocabSize, layerCount } = config;
  const vector = (name: string, size = hiddenSize) => graph.constant(weights.get(name, [size]).toFloat32(), [size]);
  const biased = (value: string, names: readonly string[], sizes: readonly number[], present: boolean): string => {
    if (!present) return value;
    const values = names.flatMap((name, i) => [...(weights.find(`${name}.bias`)?.toFloat32() ?? new Float32Array(sizes[i]!))]);
    return graph.op("Add", [value, graph.constant(Float32Array.from(values), [values.length])]);
  };
  const nextNorm = index < layerCount ? `layers.${index}.attentionNorm` : "finalNorm";
  let normed: string;
  if (index === 0) {
    graph.op("Identity", ["hidden"], {}, stream);
    normed = rmsNorm(graph, config, "hidden", vector(nextNorm));
  } else {
    const layer = `layers.${index - 1}.`;
    const { bias } = config;
    const output = product(graph, operand("attended"), [weights.get(`${layer}output`, [hiddenSize, queryHeads * headSize])], precision);
    const [middle, added] = addNorm(graph, config, "hidden", biased(output, [`${layer}output`], [hiddenSize], bias.output), vector(`${layer}feedForwardNorm`));
    const gates = product(graph, operand(middle), [weights.get(`${layer}gate`, [feedForwardSize, hiddenSize]), weights.get(`${layer}up`, [feedForwardSize, hiddenSize])], precision);
    const [gate, up] = graph.split(biased(gates, [`${layer}gate`, `${layer}up`], [feedForwardSize, feedForwardSize], bias.feedForward), 2, [feedForwardSize, feedForwardSize]);
    const inner = graph.op("Mul", [activate(graph, config, gate!), up!]);
    const down = product(graph, operand(inner), [weights.get(`${layer}down`, [hiddenSize, feedForwardSize])], precision);
    [normed] = addNorm(graph, config, added, biased(down, [`${layer}down`], [hiddenSize], bias.feedForward), vector(nextNorm), stream);
  }
  const next = operand(normed);
  const result = index < layerCount ? queriesKeysValues(graph, config, weights, precision, next, index, biased) : product(graph, next, [weights.get(config.tiedEmbedding ? "embedding" : "head", [vocabSize, hiddenSize])], precision);
  graph.op("Identity", [result], {}, projected);
}

function queriesKeysValues(
  graph: Graph, config: ModelConfig, weights: Weights, precision: Precision, x: Operand, index: number,
  biased: (value: string, names: readonly string[], sizes: readonly number[], present: boolean) => string,
): string {
  const { hiddenSize, queryHeads, keyHeads, headSize, bias } = config;
  const names = ["query", "key", "value"].map((name) => `layers.${index}.${name}`);
  const heads = [queryHeads, keyHeads, keyHeads];
  const sizes = heads.map((count) => count * headSize);
  const all = product(graph, x, names.map((name, i) => weights.get(name, [sizes[i]!, hiddenSize])), precision);
  const projected = biased(all, names, sizes, bias.query || bias.key || bias.value);
  if (!config.queryKeyNorm) return projected;
  const [q, k, v] = graph.split(projected, 2, sizes);
  const normed = [q!, k!].map((value, i) => {
    const weight = graph.constant(weights.get(`layers.${index}.${i === 0 ? "queryNorm" : "keyNorm"}`, [headSize]).toFloat32(), [headSize]);
    const perHead = graph.op("Reshape", [value, graph.integers(1, -1, heads[i]!, headSize)]);
    return graph.op("Reshape", [rmsNorm(graph, config, perHead, weight), graph.integers(1, -1, sizes[i]!)]);
  });
  return graph.op("Concat", [...normed, v!], { ints: { axis: 2 } });
} // prettier-ignore

function rmsNorm(graph: Graph, config: ModelConfig, value: string, weight: string): string {
  return graph.op("SimplifiedLayerNormalization", [value, weight], { ints: { axis: -1, stash_type: 1 }, floats: { epsilon: config.norm.epsilon } });
}

/** The norm of a + b, and a + b itself. */
function addNorm(graph: Graph, config: ModelConfig, a: string, b: string, weight: string, sum?: string): [normed: string, sum: string] {
  const normed = `${b}_normed`;
  const added = sum ?? `${b}_added`;
  graph.ops("SkipSimplifiedLayerNormalization", [a, b, weight], [normed, "", "", added], { floats: { epsilon: config.norm.epsilon } });
  return [normed, added];
}

function activate(graph: Graph, config: ModelConfig, value: string): string {
  if (config.activation === "silu") return graph.op("QuickGelu", [value], { floats: { alpha: 1 } });
  return graph.op(config.activation === "gelu" ? "Gelu" : "FastGelu", [value]);
}
