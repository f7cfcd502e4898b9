import type { ModelConfig } from "../../model/config.ts";
import { Graph, type EncodedGraph } from "./graph.ts";

/** What one rotation of a chunk turns; its cosines and sines are inputs of the graph. */
export interface RotationUse {
  /** It turns the queries of some lane. */
  readonly queries: boolean;
  /** It turns the chunk's keys into a copy that the cache keeps. */
  readonly keys: boolean;
  /** It leaves everything as it is, so no operator is needed. */
  readonly identity: boolean;
}

export interface LaneShape {
  /** The rotation of the lane's queries, by index. */
  readonly rotation: number;
  readonly masked: boolean;
}

export interface TileShape {
  readonly lanes: readonly LaneShape[];
  /** How many lanes read each stretch of values. */
  readonly stretches: readonly number[];
  readonly blind: boolean;
}

/** What an attention graph is compiled for; lengths and numbers are left to its inputs. */
export interface AttentionShape {
  readonly rotations: readonly RotationUse[];
  /** Empty when the graph only writes the cache. */
  readonly tiles: readonly TileShape[];
  readonly tempered: boolean;
}

/** Names of the graph's inputs and outputs: those of a plan are shared by all layers that have the plan. */
export const planPort = {
  cos: (plan: number, rotation: number) => `plan${plan}_cos${rotation}`,
  sin: (plan: number, rotation: number) => `plan${plan}_sin${rotation}`,
  temperature: (plan: number) => `plan${plan}_temperature`,
  tileSizes: (plan: number) => `plan${plan}_tileSizes`,
  bias: (plan: number, tile: number, lane: number) => `plan${plan}_bias${tile}_${lane}`,
  sighted: (plan: number, tile: number) => `plan${plan}_sighted${tile}`,
};
export const layerPort = {
  newKeys: (layer: number, rotation: number, head: number) => `layer${layer}_newKeys${rotation}_${head}`,
  newValues: (layer: number, head: number) => `layer${layer}_newValues${head}`,
  keys: (layer: number, tile: number, lane: number, head: number) => `layer${layer}_keys${tile}_${lane}_${head}`,
  values: (layer: number, tile: number, stretch: number, head: number) =>
    `layer${layer}_values${tile}_${stretch}_${head}`,
};

/** Declares the inputs that all layers of a plan share, once a graph. */
export function declarePlan(graph: Graph, plan: number, shape: AttentionShape): void {
  shape.rotations.forEach(({ identity, queries, keys }, rotation) => {
    if (identity || !(queries || keys)) return;
    graph.input(planPort.cos(plan, rotation), 2);
    graph.input(planPort.sin(plan, rotation), 2);
  });
  if (shape.tempered) graph.input(planPort.temperature(plan), 3);
  if (shape.tiles.length > 1) graph.input(planPort.tileSizes(plan), 1, "int64");
  shape.tiles.forEach((tile, t) => {
    tile.lanes.forEach((lane, l) => lane.masked && graph.input(planPort.bias(plan, t, l), 3));
    if (tile.blind) graph.input(planPort.sighted(plan, t), 3);
  });
}

/** Attention of one layer as a graph of its own: `projected` → `attended` [T, H, D] and the chunk's keys and values. */
export function attentionGraph(config: ModelConfig, shape: AttentionShape): EncodedGraph {
  const graph = new Graph();
  graph.input("projected", 3);
  graph.input("positions", 2, "int64");
  declarePlan(graph, 0, shape);
  const attended = attention(graph, config, shape, { plan: 0, layer: 0 }, "projected");
  if (attended) {
    graph.op("Identity", [attended], {}, "attended");
    graph.output("attended");
  }
  return graph.encode();
}

/**
 * Attention of one layer over the cache: rotates the chunk's queries and keys, writes keys and values into the cache
 * (their outputs are views of it), and attends; [T, H, D], or nothing when there are no tiles. The views that lanes read
 * contain the chunk's own tokens: every query comes out of the same `Split` that writes the keys, so no product can
 * start before they are there.
 */
export function attention(
  graph: Graph,
  config: ModelConfig,
  shape: AttentionShape,
  at: { plan: number; layer: number },
  projected: string,
): string | null {
  const { queryHeads, keyHeads, headSize, rope } = config;
  const group = queryHeads / keyHeads;
  const valueNames = Array.from({ length: keyHeads }, (_, head) => layerPort.newValues(at.layer, head));
  const both = `layer${at.layer}_queriesAndKeys`;
  graph.split(
    projected,
    2,
    [(queryHeads + keyHeads) * headSize, ...valueNames.map(() => headSize)],
    [both, ...valueNames],
  );
  for (const name of valueNames) graph.output(name);

  let source = both;
  let [queries, keys] = ["", ""];
  if (shape.tempered || shape.rotations.some((use) => use.queries !== use.keys)) {
    [queries, keys] = graph.split(source, 2, [queryHeads * headSize, keyHeads * headSize]) as [string, string];
    if (shape.tempered) {
      queries = graph.op("Mul", [queries, planPort.temperature(at.plan)]);
      source = graph.op("Concat", [queries, keys], { ints: { axis: 2 } });
    }
  }
  const parts: string[] = [];
  const heads: { readonly name: string; readonly size: number }[] = [];
  const queryName = (rotation: number, head: number) => `layer${at.layer}_queries${rotation}_${head}`;
  shape.rotations.forEach((use, rotation) => {
    const count = (use.queries ? queryHeads : 0) + (use.keys ? keyHeads : 0);
    if (count === 0) return;
    const value = use.queries && use.keys ? source : use.queries ? queries : keys;
    const inputs = [value, "positions", planPort.cos(at.plan, rotation), planPort.sin(at.plan, rotation)];
    const ints = {
      num_heads: count,
      rotary_embedding_dim: rope.rotarySize === headSize ? 0 : rope.rotarySize,
      interleaved: 0,
    };
    parts.push(use.identity ? value : graph.op("RotaryEmbedding", inputs, { ints }));
    for (let head = 0; head < keyHeads && use.queries; head++)
      heads.push({ name: queryName(rotation, head), size: group });
    for (let head = 0; head < keyHeads && use.keys; head++) {
      const name = layerPort.newKeys(at.layer, rotation, head);
      heads.push({ name, size: 1 });
      graph.output(name);
    }
  });
  const joined = parts.length > 1 ? graph.op("Concat", parts, { ints: { axis: 2 } }) : parts[0];
  const byHead = graph.op("Reshape", [
    joined,
    graph.integers(
      -1,
      heads.reduce((sum, head) => sum + head.size, 0),
      headSize,
    ),
  ]);
  graph.split(
    byHead,
    1,
    heads.map((head) => head.size),
    heads.map((head) => head.name),
  );
  if (shape.tiles.length === 0) return null;

  const tiled = new Map<string, readonly string[]>();
  const queriesOf = (rotation: number, head: number, tile: number): string => {
    const name = queryName(rotation, head);
    if (shape.tiles.length === 1) return name;
    const known = tiled.get(name);
    if (known) return known[tile];
    const names = shape.tiles.map((_, t) => `${name}_${t}`);
    graph.ops("Split", [name, planPort.tileSizes(at.plan)], names, { ints: { axis: 0 } });
    tiled.set(name, names);
    return names[tile];
  };
  const outputs = shape.tiles.map((tile, t) => {
    // Outputs [T, H/K, D] of each key head's queries, side by side, are [T, H, D].
    const byKeyHead = valueNames.map((_, head) =>
      attend(graph, config, tile, at, t, head, (rotation) => queriesOf(rotation, head, t)),
    );
    const output = byKeyHead.length > 1 ? graph.op("Concat", byKeyHead, { ints: { axis: 1 } }) : byKeyHead[0];
    return tile.blind ? graph.op("Mul", [output, planPort.sighted(at.plan, t)]) : output;
  });
  return outputs.length > 1 ? graph.op("Concat", outputs, { ints: { axis: 0 } }) : outputs[0];
}

/** One tile and one key head: scores of every lane, one softmax, values; [rows, group, D]. */
function attend(
  graph: Graph,
  config: ModelConfig,
  tile: TileShape,
  at: { plan: number; layer: number },
  t: number,
  head: number,
  queries: (rotation: number) => string,
): string {
  // Zero rows out of the `Split` that writes the chunk's own values: they make the concatenation wait for those values.
  const afterStore = (): string => {
    const rows = graph.op("Reshape", [queries(tile.lanes[0].rotation), graph.integers(-1, config.headSize)]);
    return graph.op("Gather", [rows, graph.constant(new BigInt64Array(0), [0])], { ints: { axis: 0 } });
  };
  if (tile.lanes.length === 0) return graph.op("Mul", [queries(0), graph.constant(Float32Array.of(0), [1])]);
  const scores = tile.lanes.map((lane, l) => {
    const inputs = [queries(lane.rotation), graph.input(layerPort.keys(at.layer, t, l, head), 2)];
    const products = graph.op("FusedMatMul", inputs, {
      ints: { transB: 1 },
      floats: { alpha: 1 / Math.sqrt(config.headSize) },
    });
    return lane.masked ? graph.op("Add", [products, planPort.bias(at.plan, t, l)]) : products;
  });
  const probabilities = graph.op(
    "Softmax",
    [scores.length > 1 ? graph.op("Concat", scores, { ints: { axis: 2 } }) : scores[0]],
    { ints: { axis: -1 } },
  );
  // Several stretches are joined by copying values [n, D], which costs less than splitting the probabilities of all query heads.
  const stored = tile.stretches.map((_, s) => graph.input(layerPort.values(at.layer, t, s, head), 2));
  const values = stored.length > 1 ? graph.op("Concat", [...stored, afterStore()], { ints: { axis: 0 } }) : stored[0];
  return graph.op("MatMul", [probabilities, values]);
}
