import type { Precision } from "../../backend/backend.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { Weights } from "../../model/weights.ts";
import type { Graph } from "./graph.ts";
import { operand, product, type Operand } from "./product.ts";

/** What the parts of a decoder need to write themselves into a graph. */
export interface Parts {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly precision: Precision;
}

/** The residual stream and its norm. */
export interface Stream {
  readonly stream: string;
  readonly normed: string;
}

/** hidden → norm of the first layer. */
export function firstNorm(graph: Graph, parts: Parts, hidden: string): Stream {
  return { stream: hidden, normed: rmsNorm(graph, parts, hidden, vector(graph, parts, "layers.0.attentionNorm")) };
}

/** Output product and feed-forward of a layer, up to the norm that follows. */
export function afterAttention(graph: Graph, parts: Parts, layer: number, hidden: string, attended: string): Stream {
  const { hiddenSize, queryHeads, headSize, feedForwardSize, layerCount, bias } = parts.config;
  const name = (part: string) => `layers.${layer}.${part}`;
  const matrix = (part: string, outputs: number, inputs: number) => parts.weights.get(name(part), [outputs, inputs]);
  const output = product(
    graph,
    operand(attended),
    [matrix("output", hiddenSize, queryHeads * headSize)],
    parts.precision,
  );
  const middle = addNorm(
    graph,
    parts,
    hidden,
    biased(graph, parts, output, [name("output")], [hiddenSize], bias.output),
    vector(graph, parts, name("feedForwardNorm")),
  );
  const through = operand(middle.normed);
  const [gate, up] = ["gate", "up"].map((part) =>
    biased(
      graph,
      parts,
      product(graph, through, [matrix(part, feedForwardSize, hiddenSize)], parts.precision),
      [name(part)],
      [feedForwardSize],
      bias.feedForward,
    ),
  ) as [string, string];
  const inner = graph.op("Mul", [activate(graph, parts, gate), up]);
  const down = product(graph, operand(inner), [matrix("down", hiddenSize, feedForwardSize)], parts.precision);
  const next = layer + 1 < layerCount ? `layers.${layer + 1}.attentionNorm` : "finalNorm";
  return addNorm(
    graph,
    parts,
    middle.stream,
    biased(graph, parts, down, [name("down")], [hiddenSize], bias.feedForward),
    vector(graph, parts, next),
  );
}

/** q, k and v of a layer side by side, [1, T, (H + 2K)·D]. */
export function queriesKeysValues(graph: Graph, parts: Parts, layer: number, normed: string): string {
  const { hiddenSize, queryHeads, keyHeads, headSize, bias, queryKeyNorm } = parts.config;
  const names = ["query", "key", "value"].map((name) => `layers.${layer}.${name}`);
  const heads = [queryHeads, keyHeads, keyHeads];
  const sizes = heads.map((count) => count * headSize);
  const x: Operand = operand(normed);
  const all = product(
    graph,
    x,
    names.map((name, i) => parts.weights.get(name, [sizes[i], hiddenSize])),
    parts.precision,
  );
  const projected = biased(graph, parts, all, names, sizes, bias.query || bias.key || bias.value);
  if (!queryKeyNorm) return projected;
  const [q, k, v] = graph.split(projected, 2, sizes);
  const normedHeads = [q, k].map((value, i) => {
    const weight = vector(graph, parts, `layers.${layer}.${i === 0 ? "queryNorm" : "keyNorm"}`, headSize);
    const perHead = graph.op("Reshape", [value, graph.integers(1, -1, heads[i], headSize)]);
    return graph.op("Reshape", [rmsNorm(graph, parts, perHead, weight), graph.integers(1, -1, sizes[i])]);
  });
  return graph.op("Concat", [...normedHeads, v], { ints: { axis: 2 } });
}

/** Logits [1, T, V] of the final norm's rows. */
export function head(graph: Graph, parts: Parts, normed: string): string {
  const { tiedEmbedding, vocabSize, hiddenSize } = parts.config;
  return product(
    graph,
    operand(normed),
    [parts.weights.get(tiedEmbedding ? "embedding" : "head", [vocabSize, hiddenSize])],
    parts.precision,
  );
}

function vector(graph: Graph, { config, weights }: Parts, name: string, size = config.hiddenSize): string {
  return graph.constant(weights.get(name, [size]).toFloat32(), [size]);
}

function biased(
  graph: Graph,
  { weights }: Parts,
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

function rmsNorm(graph: Graph, { config }: Parts, value: string, weight: string): string {
  return graph.op("SimplifiedLayerNormalization", [value, weight], {
    ints: { axis: -1, stash_type: 1 },
    floats: { epsilon: config.norm.epsilon },
  });
}

/** a + b and its norm. */
function addNorm(graph: Graph, { config }: Parts, a: string, b: string, weight: string): Stream {
  const result = { normed: `${b}_normed`, stream: `${b}_stream` };
  graph.ops("SkipSimplifiedLayerNormalization", [a, b, weight], [result.normed, "", "", result.stream], {
    floats: { epsilon: config.norm.epsilon },
  });
  return result;
}

function activate(graph: Graph, { config }: Parts, value: string): string {
  if (config.activation === "silu") return graph.op("QuickGelu", [value], { floats: { alpha: 1 } });
  return graph.op(config.activation === "gelu" ? "Gelu" : "FastGelu", [value]);
}
