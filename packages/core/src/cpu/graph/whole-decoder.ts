import { attention, declarePlan, type AttentionShape } from "./attention-graph.ts";
import { Graph, type EncodedGraph } from "./graph.ts";
import { afterAttention, firstNorm, queriesKeysValues } from "./layers.ts";
import type { ModelSource } from "../weights/model-source.ts";
import { bindLayer } from "./bindings.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { Passage } from "../state/passage.ts";
import type { LogitHead } from "./logit-head.ts";
import { isQuantised } from "../weights/quantised.ts";
import { floats, integers, ProgramCache, Scratch, type Feeds } from "./runtime.ts";

/** Each compiled graph holds a copy of the weights; of a small model several are kept, so that methods can take turns. */
const KEPT_BYTES = 2 ** 29;
const [FEWEST, MOST] = [2, 8];
/** Bytes of a quantised weight with its share of the block's scale and minimum. */
const BYTES_A_CODE = 0.75;

/** Computes a chunk in one call, by a graph of all layers. */
export class WholeDecoder {
  readonly #source: ModelSource;
  readonly #programs: ProgramCache;
  readonly #head: LogitHead;
  readonly #normed = new Scratch();

  constructor(source: ModelSource, threads: number, head: LogitHead) {
    this.#source = source;
    this.#programs = new ProgramCache(keptPrograms(source), threads);
    this.#head = head;
  }

  async run(
    { state, first, count, hidden, logits, logitRows }: Passage,
    chunks: readonly PreparedChunk[],
  ): Promise<void> {
    const { config } = this.#source;
    const plans = [...new Set(chunks)];
    const planOf = chunks.map((chunk) => plans.indexOf(chunk));
    // A graph without rows would have to be compiled apart; one row more costs little beside a chunk.
    const rows = Math.max(logitRows, 1);
    const feeds: Feeds = {
      hidden: floats(hidden, 1, count, config.hiddenSize),
      positions: integers(
        Array.from({ length: count }, (_, i) => i),
        1,
        count,
      ),
      rows: integers(
        Array.from({ length: rows }, (_, i) => count - rows + i),
        rows,
      ),
    };
    plans.forEach((chunk, plan) => Object.assign(feeds, chunk.feeds(plan)));
    const normed = this.#normed.take(rows * config.hiddenSize);
    const outputs: Feeds = { normed: floats(normed, 1, rows, config.hiddenSize) };
    chunks.forEach((chunk, layer) => bindLayer(config, state, layer, layer, chunk, first, count, feeds, outputs));
    const key = JSON.stringify([plans.map((chunk) => chunk.key), plans.length > 1 ? planOf : 0]);
    const program = await this.#programs.get(key, () =>
      wholeGraph(
        this.#source,
        plans.map((chunk) => chunk.shape),
        planOf,
      ),
    );
    await program.run(feeds, outputs);
    await this.#head.run(normed, logits, logitRows);
  }

  release(): Promise<void> {
    return this.#programs.release();
  }
}

function keptPrograms({ weights }: ModelSource): number {
  let bytes = 0;
  for (const name of weights.names()) {
    const { type, shape } = weights.find(name)!;
    if (name.startsWith("layers."))
      bytes += shape.reduce((size, side) => size * side, 1) * (isQuantised(type) ? BYTES_A_CODE : 4);
  }
  return Math.min(Math.max(Math.floor(KEPT_BYTES / bytes), FEWEST), MOST);
}

/**
 * All layers as one graph: `hidden` [1, T, hidden] in, `normed` [1, R, hidden] out, the final norm of the rows listed in
 * `rows`; keys and values are read from the cache and written into it as in `attention`. `planOf` gives each layer's
 * shape, by index.
 */
function wholeGraph(source: ModelSource, shapes: readonly AttentionShape[], planOf: readonly number[]): EncodedGraph {
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
      // Behind the last attention rows do not see each other, so only the rows that get logits are computed.
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
