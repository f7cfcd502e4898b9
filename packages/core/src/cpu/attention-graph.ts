import type { ModelConfig } from "../config.ts";
import { Graph } from "./graph.ts";

/** What a rotation of this chunk applies to; the numbers come as inputs. */
export interface RotationUse {
  /** Some lane's queries have it. */
  readonly queries: boolean;
  /** The cache keeps keys rotated this way. */
  readonly keys: boolean;
  /** No rotation at all. */
  readonly identity: boolean;
}

export interface LaneShape {
  /** Index of the rotation of its queries. */
  readonly rotation: number;
  readonly masked: boolean;
}

export interface TileShape {
  readonly lanes: readonly LaneShape[];
  /** How many lanes each stretch of values spans. */
  readonly stretches: readonly number[];
  readonly blind: boolean;
}

/** Everything that changes the attention graph; what is left to its inputs are lengths and numbers. */
export interface AttentionShape {
  readonly rotations: readonly RotationUse[];
  /** None: only the cache is written. */
  readonly tiles: readonly TileShape[];
  readonly tempered: boolean;
}

/** Names of the inputs and outputs, so that the caller and the graph agree. */
export const port = {
  cos: (rotation: number) => `cos${rotation}`,
  sin: (rotation: number) => `sin${rotation}`,
  keyOut: (rotation: number, head: number) => `newKey${rotation}_${head}`,
  valueOut: (head: number) => `newValue${head}`,
  keys: (tile: number, lane: number, head: number) => `keys${tile}_${lane}_${head}`,
  values: (tile: number, stretch: number, head: number) => `values${tile}_${stretch}_${head}`,
  widths: (tile: number) => `widths${tile}`,
  bias: (tile: number, lane: number) => `bias${tile}_${lane}`,
  sighted: (tile: number) => `sighted${tile}`,
};

/**
 * Attention of one layer over the cache: rotates the chunk's queries and keys, writes keys and values into the cache
 * (their outputs are views of it), and attends. The views that lanes read contain the chunk's own tokens: every query
 * comes out of the same `Split` that writes the keys, so no product can start before they are there.
 */
export function attentionGraph(config: ModelConfig, shape: AttentionShape): Uint8Array {
  const { queryHeads, keyHeads, headSize, rope } = config;
  const group = queryHeads / keyHeads;
  const graph = new Graph();
  graph.input("projected", 3);
  graph.input("positions", 2, "int64");
  const [queriesAndKeys, ...values] = graph.split(
    "projected",
    2,
    [(queryHeads + keyHeads) * headSize, ...Array.from({ length: keyHeads }, () => headSize)],
    ["queriesAndKeys", ...Array.from({ length: keyHeads }, (_, head) => port.valueOut(head))],
  );
  for (const value of values) graph.output(value);

  let source = queriesAndKeys!;
  let [queries, keys] = ["", ""];
  if (shape.tempered || shape.rotations.length > 1 || !(shape.rotations[0]!.queries && shape.rotations[0]!.keys)) {
    [queries, keys] = graph.split(source, 2, [queryHeads * headSize, keyHeads * headSize]) as [string, string];
    if (shape.tempered) {
      graph.input("temperature", 3);
      queries = graph.op("Mul", [queries, "temperature"]);
      source = graph.op("Concat", [queries, keys], { ints: { axis: 2 } });
    }
  }
  const parts: string[] = [];
  /** Names of the heads in the order of the parts. */
  const heads: { readonly name: string; readonly size: number }[] = [];
  shape.rotations.forEach((use, rotation) => {
    const value = use.queries && use.keys ? source : use.queries ? queries : keys;
    const count = (use.queries ? queryHeads : 0) + (use.keys ? keyHeads : 0);
    if (count === 0) return;
    let rotated = value;
    if (!use.identity) {
      const inputs = [value, "positions", graph.input(port.cos(rotation), 2), graph.input(port.sin(rotation), 2)];
      rotated = graph.op("RotaryEmbedding", inputs, { ints: { num_heads: count, rotary_embedding_dim: rope.rotarySize === headSize ? 0 : rope.rotarySize, interleaved: 0 } });
    }
    parts.push(rotated);
    for (let head = 0; head < keyHeads && use.queries; head++) heads.push({ name: `queries${rotation}_${head}`, size: group });
    for (let head = 0; head < keyHeads && use.keys; head++) heads.push({ name: port.keyOut(rotation, head), size: 1 });
  });
  const joined = parts.length > 1 ? graph.op("Concat", parts, { ints: { axis: 2 } }) : parts[0]!;
  const total = heads.reduce((sum, head) => sum + head.size, 0);
  const byHead = graph.op("Reshape", [joined, graph.integers(-1, total, headSize)]);
  graph.split(byHead, 1, heads.map((head) => head.size), heads.map((head) => head.name));
  for (const { name, size } of heads) if (size === 1 && name.startsWith("newKey")) graph.output(name);

  const tiled = new Map<string, string[]>();
  const queriesOf = (rotation: number, head: number, tile: number): string => {
    const name = `queries${rotation}_${head}`;
    if (shape.tiles.length === 1) return name;
    const known = tiled.get(name);
    if (known) return known[tile]!;
    const names = shape.tiles.map((_, i) => `${name}_${i}`);
    graph.ops("Split", [name, "tileSizes"], names, { ints: { axis: 0 } });
    tiled.set(name, names);
    return names[tile]!;
  };
  if (shape.tiles.length === 0) return graph.encode();
  if (shape.tiles.length > 1) graph.input("tileSizes", 1, "int64");
  const outputs = shape.tiles.map((tile, t) => {
    const byKeyHead = Array.from({ length: keyHeads }, (_, head) => attend(graph, config, tile, t, head, (rotation) => queriesOf(rotation, head, t)));
    const output = byKeyHead.length > 1 ? graph.op("Concat", byKeyHead, { ints: { axis: 1 } }) : byKeyHead[0]!;
    return tile.blind ? graph.op("Mul", [output, graph.input(port.sighted(t), 3)]) : output;
  });
  // The queries' [T, group, D] of each key head side by side are [T, H, D].
  if (outputs.length > 1) graph.op("Concat", outputs, { ints: { axis: 0 } }, "attended");
  else graph.op("Identity", [outputs[0]!], {}, "attended");
  graph.output("attended");
  return graph.encode();
}

/** One tile and one key head: scores of every lane, one softmax, values; [rows, group, D]. */
function attend(graph: Graph, config: ModelConfig, tile: TileShape, t: number, head: number, queries: (rotation: number) => string): string {
  if (tile.lanes.length === 0) return graph.op("Mul", [queries(0), graph.constant(Float32Array.of(0), [1])]);
  const scores = tile.lanes.map((lane, l) => {
    const inputs = [queries(lane.rotation), graph.input(port.keys(t, l, head), 2)];
    const products = graph.op("FusedMatMul", inputs, { ints: { transB: 1 }, floats: { alpha: 1 / Math.sqrt(config.headSize) } });
    if (!lane.masked) return products;
    if (head === 0) graph.input(port.bias(t, l), 3);
    return graph.op("Add", [products, port.bias(t, l)]);
  });
  const probabilities = graph.op("Softmax", [scores.length > 1 ? graph.op("Concat", scores, { ints: { axis: 2 } }) : scores[0]!], { ints: { axis: -1 } });
  let parts = [probabilities];
  if (tile.stretches.length > 1) {
    parts = tile.stretches.map((_, s) => `stretch${t}_${s}_${head}`);
    if (head === 0) graph.input(port.widths(t), 1, "int64");
    graph.ops("Split", [probabilities, port.widths(t)], parts, { ints: { axis: 2 } });
  }
  const sums = parts.map((part, s) => graph.op("MatMul", [part, graph.input(port.values(t, s, head), 2)]));
  return sums.reduce((sum, next) => graph.op("Add", [sum, next]));
}
