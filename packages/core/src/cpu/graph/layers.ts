import type { ModelSource } from "../weights/model-source.ts";
import type { Graph } from "./graph.ts";
import { operand, product, type Operand } from "./product.ts";

/** Names of the residual stream and of its norm in a graph. */
export interface Stream {
  readonly stream: string;
  readonly normed: string;
}

/** The graph's input `hidden` and its norm before the first layer's attention. */
export function firstNorm(graph: Graph, source: ModelSource, hidden: string): Stream {
  return { stream: hidden, normed: rmsNorm(graph, source, hidden, vector(graph, source, "layers.0.attentionNorm")) };
}

/** A layer from its output product on: feed-forward network, residual stream, and the next layer's norm or the final one. */
export function afterAttention(
  graph: Graph,
  source: ModelSource,
  layer: number,
  hidden: string,
  attended: string,
): Stream {
  const { hiddenSize, queryHeads, headSize, feedForwardSize, layerCount, bias } = source.config;
  const name = (part: string) => `layers.${layer}.${part}`;
  const matrix = (part: string, outputs: number, inputs: number) => source.weights.get(name(part), [outputs, inputs]);
  const output = product(
    graph,
    operand(attended),
    [matrix("output", hiddenSize, queryHeads * headSize)],
    source.precision,
  );
  const middle = addNorm(
    graph,
    source,
    hidden,
    biased(graph, source, output, [name("output")], [hiddenSize], bias.output),
    vector(graph, source, name("feedForwardNorm")),
  );
  const through = operand(middle.normed);
  const [gate, up] = ["gate", "up"].map((part) =>
    biased(
      graph,
      source,
      product(graph, through, [matrix(part, feedForwardSize, hiddenSize)], source.precision),
      [name(part)],
      [feedForwardSize],
      bias.feedForward,
    ),
  ) as [string, string];
  const inner = graph.op("Mul", [activate(graph, source, gate), up]);
  const down = product(graph, operand(inner), [matrix("down", hiddenSize, feedForwardSize)], source.precision);
  const next = layer + 1 < layerCount ? `layers.${layer + 1}.attentionNorm` : "finalNorm";
  return addNorm(
    graph,
    source,
    middle.stream,
    biased(graph, source, down, [name("down")], [hiddenSize], bias.feedForward),
    vector(graph, source, next),
  );
}

/** q, k and v of a layer side by side, [1, T, (H + 2K)·D]. */
export function queriesKeysValues(graph: Graph, source: ModelSource, layer: number, normed: string): string {
  const { hiddenSize, queryHeads, keyHeads, headSize, bias, queryKeyNorm } = source.config;
  const names = ["query", "key", "value"].map((name) => `layers.${layer}.${name}`);
  const heads = [queryHeads, keyHeads, keyHeads];
  const sizes = heads.map((count) => count * headSize);
  const x: Operand = operand(normed);
  const all = product(
    graph,
    x,
    names.map((name, i) => source.weights.get(name, [sizes[i], hiddenSize])),
    source.precision,
  );
  const projected = biased(graph, source, all, names, sizes, bias.query || bias.key || bias.value);
  if (!queryKeyNorm) return projected;
  const [q, k, v] = graph.split(projected, 2, sizes);
  const normedHeads = [q, k].map((value, i) => {
    const weight = vector(graph, source, `layers.${layer}.${i === 0 ? "queryNorm" : "keyNorm"}`, headSize);
    const perHead = graph.op("Reshape", [value, graph.integers(1, -1, heads[i], headSize)]);
    return graph.op("Reshape", [rmsNorm(graph, source, perHead, weight), graph.integers(1, -1, sizes[i])]);
  });
  return graph.op("Concat", [...normedHeads, v], { ints: { axis: 2 } });
}

/** Logits [1, T, V] of rows [1, T, hidden] behind the final norm. */
export function head(graph: Graph, source: ModelSource, normed: string): string {
  const { tiedEmbedding, vocabSize, hiddenSize } = source.config;
  return product(
    graph,
    operand(normed),
    [source.weights.get(tiedEmbedding ? "embedding" : "head", [vocabSize, hiddenSize])],
    source.precision,
  );
}

function vector(graph: Graph, { config, weights }: ModelSource, name: string, size = config.hiddenSize): string {
  return graph.constant(weights.get(name, [size]).toFloat32(), [size]);
}

function biased(
  graph: Graph,
  { weights }: ModelSource,
  value: string,
  names: readonly string[],
  sizes: readonly number[],
  present: boolean,
): string {
  if (!present) return value;
  const values = names.flatMap((name, i) => [
    ...(weights.find(`${name}.bias`)?.toFloat32() ?? new Float32Array(sizes[i])),
  ]);
  return graph.op("Add", [value, graph.constant(Float32Array.from(values), [values.length])]);
}

function rmsNorm(graph: Graph, { config }: ModelSource, value: string, weight: string): string {
  return graph.op("SimplifiedLayerNormalization", [value, weight], {
    ints: { axis: -1, stash_type: 1 },
    floats: { epsilon: config.norm.epsilon },
  });
}

/** Adds a + b to the graph, and its norm. */
function addNorm(graph: Graph, { config }: ModelSource, a: string, b: string, weight: string): Stream {
  const result = { normed: `${b}_normed`, stream: `${b}_stream` };
  graph.ops("SkipSimplifiedLayerNormalization", [a, b, weight], [result.normed, "", "", result.stream], {
    floats: { epsilon: config.norm.epsilon },
  });
  return result;
}

function activate(graph: Graph, { config }: ModelSource, value: string): string {
  if (config.activation === "silu") return graph.op("QuickGelu", [value], { floats: { alpha: 1 } });
  return graph.op(config.activation === "gelu" ? "Gelu" : "FastGelu", [value]);
}
