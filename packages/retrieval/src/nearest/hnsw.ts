import { LongctxError, type KeyIndexMaker } from "@longctx/core";
import { HnswIndex } from "./hnsw-index.ts";
import type { GraphOptions } from "./hnsw-graph.ts";
import { hnswlib } from "./hnswlib.ts";
import { Metric } from "./metric.ts";

/** Defaults, the knee of the curve of recall against time that docs/log.md has measured. */
export const HNSW: GraphOptions = { M: 16, efConstruction: 200, ef: 256 };

/**
 * Indexes of keys as hierarchical navigable small-world graphs (Malkov, Yashunin 2016, arXiv:1603.09320), by the
 * library hnswlib-node, for maximum inner products. `M` is the number of neighbours of a node (2 to 256),
 * `efConstruction` the number of candidates while keys are added (at least M), `ef` while a query is searched, which is
 * at least the number of tokens asked for. Larger numbers find more of the best tokens and take longer; `ef` as large
 * as the number of keys finds nearly all. The same keys, added in the same calls, give the same graph.
 * @throws LongctxError "method" for impossible numbers
 */
export function hnswIndex(options: Partial<GraphOptions> = {}): KeyIndexMaker {
  const { M, efConstruction, ef } = { ...HNSW, ...options };
  const check = (name: string, value: number, min: number, max: number): void => {
    if (!Number.isInteger(value) || value < min || value > max)
      throw new LongctxError("method", `hnsw: ${name} is ${value}; give a whole number from ${min} to ${max}.`);
  };
  check("M", M, 2, 256);
  check("efConstruction", efConstruction, M, 1_000_000);
  check("ef", ef, 1, 10_000_000);
  const graph: GraphOptions = { M, efConstruction, ef };
  return {
    id: `hnsw M=${M} efConstruction=${efConstruction} ef=${ef}`,
    create: (dimension, examples) =>
      new HnswIndex(hnswlib(), dimension, graph, examples ? Metric.of(examples, dimension) : null),
    restore: (bytes, dimension) => HnswIndex.restore(hnswlib(), bytes, dimension, graph),
  };
}
