import { attention, declarePlan, type AttentionShape } from "./attention-graph.ts";
import { Graph, type EncodedGraph } from "./graph.ts";
import { afterAttention, firstNorm, queriesKeysValues } from "./layers.ts";
import type { ModelSource } from "../weights/model-source.ts";
import { bindLayer, GatheredLists } from "./bindings.ts";
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

/** Computes a chunk in one call, by a graph of all layers, or of those up to the one that a pass stops after. */
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

  /** `chunks` has the plan of each layer that is computed. */
  async run(
    { state, request, first, count, hidden, logits, logitRows }: Passage,
    chunks: readonly PreparedChunk[],
  ): Promise<void> {
    const { config } = this.#source;
    const stops = request.stopAfter !== undefined;
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
    };
    plans.forEach((chunk, plan) => Object.assign(feeds, chunk.feeds(plan)));
    const normed = this.#normed.take(rows * config.hiddenSize);
    const outputs: Feeds = {};
    if (!stops) {
      const listed = Array.from({ length: rows }, (_, i) => count - rows + i);
      feeds["rows"] = integers(listed, rows);
      outputs["normed"] = floats(normed, 1, rows, config.hiddenSize);
    }
    chunks.forEach((chunk, layer) => {
      // The layer that a pass stops after writes its keys and values and reads none.
      const bound = layer === request.stopAfter ? { ...chunk, tiles: [] } : chunk;
      bindLayer(config, state, layer, layer, bound, first, count, feeds, outputs, new GatheredLists());
    });
    const key = JSON.stringify([plans.map((chunk) => chunk.key), plans.length > 1 ? planOf : 0, request.stopAfter]);
    const program = await this.#programs.get(key, () =>
      wholeGraph(
        this.#source,
        plans.map((chunk) => chunk.shape),
        planOf,
        stops,
      ),
    );
    await program.run(feeds, outputs);
    if (!stops) await this.#head.run(normed, logits, logitRows);
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
 * shape, by index. A graph that `stops` ends with the keys and values of the last layer in `planOf`, without `rows` and
 * `normed`.
 */
function wholeGraph(
  source: ModelSource,
  shapes: readonly AttentionShape[],
  planOf: readonly number[],
  stops: boolean,
): EncodedGraph {
  const { queryHeads, headSize } = source.config;
  const graph = new Graph();
  graph.input("hidden", 3);
  graph.input("positions", 2, "int64");
  if (!stops) graph.input("rows", 1, "int64");
  shapes.forEach((shape, plan) => declarePlan(graph, plan, shape));
  const flat = graph.integers(1, -1, queryHeads * headSize);
  let next = firstNorm(graph, source, "hidden");
  for (const [layer, plan] of planOf.entries()) {
    const last = layer === planOf.length - 1;
    const projected = queriesKeysValues(graph, source, layer, next.normed);
    if (last && stops) {
      attention(graph, source.config, { ...shapes[plan], tiles: [] }, { plan, layer }, projected);
      return graph.encode();
    }
    const byHead = attention(graph, source.config, shapes[plan], { plan, layer }, projected)!;
    let attended = graph.op("Reshape", [byHead, flat]);
    let { stream } = next;
    if (last) {
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
