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
  /** Lanes with slots and masks of their own in each key head; they are named behind the others, and so are their values. */
  readonly own?: readonly LaneShape[];
}

/** What an attention graph is compiled for; lengths and numbers are left to its inputs. */
export interface AttentionShape {
  readonly rotations: readonly RotationUse[];
  /** Empty when the graph only writes the cache. */
  readonly tiles: readonly TileShape[];
  readonly tempered: boolean;
  /**
   * Given where each query and head has tokens of its own besides, attended to apart: their output and the logarithm of
   * the sum of their exponentials are inputs, and the graph joins both softmaxes to one.
   */
  readonly found?: true;
  /** Given where the sums of probabilities over queries and the query heads of a key head are outputs. */
  readonly masses?: true;
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
  ownBias: (layer: number, tile: number, lane: number, head: number) => `layer${layer}_bias${tile}_${lane}_${head}`,
  found: (layer: number, head: number) => `layer${layer}_found${head}`,
  foundLogits: (layer: number, head: number) => `layer${layer}_foundLogits${head}`,
  masses: (layer: number, tile: number, head: number) => `layer${layer}_masses${tile}_${head}`,
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
  const tileOf = (name: string, tile: number): string => {
    if (shape.tiles.length === 1) return name;
    const known = tiled.get(name);
    if (known) return known[tile];
    const names = shape.tiles.map((_, t) => `${name}_${t}`);
    graph.ops("Split", [name, planPort.tileSizes(at.plan)], names, { ints: { axis: 0 } });
    tiled.set(name, names);
    return names[tile];
  };
  if (shape.found)
    for (let head = 0; head < keyHeads; head++) {
      graph.input(layerPort.found(at.layer, head), 3);
      graph.input(layerPort.foundLogits(at.layer, head), 3);
    }
  const outputs = shape.tiles.map((tile, t) => {
    // Outputs [T, H/K, D] of each key head's queries, side by side, are [T, H, D].
    const byKeyHead = valueNames.map((_, head) => {
      const found = shape.found && {
        output: tileOf(layerPort.found(at.layer, head), t),
        logits: tileOf(layerPort.foundLogits(at.layer, head), t),
      };
      const masses = shape.masses && layerPort.masses(at.layer, t, head);
      const queriesOf = (rotation: number) => tileOf(queryName(rotation, head), t);
      return attend(graph, config, tile, at, { t, head, queriesOf, found, masses });
    });
    const output = byKeyHead.length > 1 ? graph.op("Concat", byKeyHead, { ints: { axis: 1 } }) : byKeyHead[0];
    return tile.blind ? graph.op("Mul", [output, planPort.sighted(at.plan, t)]) : output;
  });
  return outputs.length > 1 ? graph.op("Concat", outputs, { ints: { axis: 0 } }) : outputs[0];
}

/** One key head in a tile. */
interface HeadOfTile {
  readonly t: number;
  readonly head: number;
  /** The name of the queries [rows, group, D] under a rotation. */
  queriesOf(rotation: number): string;
  /** Output [rows, group, D] and logits [rows, group, 1] of the tokens that queries and heads have found for themselves. */
  readonly found?: { readonly output: string; readonly logits: string };
  /** The output for the sum of probabilities [columns], where it is asked for. */
  readonly masses?: string;
}

/** One tile and one key head: scores of every lane, one softmax, values; [rows, group, D]. */
function attend(
  graph: Graph,
  config: ModelConfig,
  tile: TileShape,
  at: { plan: number; layer: number },
  { t, head, queriesOf, found, masses }: HeadOfTile,
): string {
  const lanes = [...tile.lanes, ...(tile.own ?? [])];
  // Zero rows out of the `Split` that writes the chunk's own values: they make the concatenation wait for those values.
  const afterStore = (): string => {
    const rows = graph.op("Reshape", [queriesOf(lanes[0].rotation), graph.integers(-1, config.headSize)]);
    return graph.op("Gather", [rows, graph.constant(new BigInt64Array(0), [0])], { ints: { axis: 0 } });
  };
  if (lanes.length === 0)
    return found?.output ?? graph.op("Mul", [queriesOf(0), graph.constant(Float32Array.of(0), [1])]);
  const scores = lanes.map((lane, l) => {
    const inputs = [queriesOf(lane.rotation), graph.input(layerPort.keys(at.layer, t, l, head), 2)];
    const products = graph.op("FusedMatMul", inputs, {
      ints: { transB: 1 },
      floats: { alpha: 1 / Math.sqrt(config.headSize) },
    });
    if (!lane.masked) return products;
    const bias =
      l < tile.lanes.length
        ? planPort.bias(at.plan, t, l)
        : graph.input(layerPort.ownBias(at.layer, t, l - tile.lanes.length, head), 3);
    return graph.op("Add", [products, bias]);
  });
  // What was found is one more column, whose value is a row of zeros: its output is added afterwards.
  if (found) scores.push(found.logits);
  const probabilities = graph.op(
    "Softmax",
    [scores.length > 1 ? graph.op("Concat", scores, { ints: { axis: 2 } }) : scores[0]],
    { ints: { axis: -1 } },
  );
  if (masses) {
    graph.op("ReduceSum", [probabilities, graph.integers(0, 1)], { ints: { keepdims: 0 } }, masses);
    graph.output(masses);
  }
  // Several stretches are joined by copying values [n, D], which costs less than splitting the probabilities of all query heads.
  const stretches = tile.stretches.length + (tile.own?.length ?? 0);
  const stored = Array.from({ length: stretches }, (_, s) => graph.input(layerPort.values(at.layer, t, s, head), 2));
  if (found) stored.push(graph.constant(new Float32Array(config.headSize), [1, config.headSize]));
  const values = stored.length > 1 ? graph.op("Concat", [...stored, afterStore()], { ints: { axis: 0 } }) : stored[0];
  const output = graph.op("MatMul", [probabilities, values]);
  if (!found) return output;
  const share = graph.op("Gather", [probabilities, graph.integers(-1)], { ints: { axis: 2 } });
  return graph.op("Add", [output, graph.op("Mul", [share, found.output])]);
}
