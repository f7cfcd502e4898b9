import { hnswIndex, type KeyIndex } from "longctx";
import { hnswlib } from "../../../packages/retrieval/src/nearest/hnswlib.ts";
import { SINKS, type Asked } from "./asked.ts";
import type { ExactSearch } from "./exact.ts";

/**
 * How a graph is built: hnswlib over the keys as they are, or as `hnswIndex` puts them on a sphere, with examples of queries
 * or without.
 */
export interface Build {
  readonly keys: "raw" | "sphere" | "sphere, examples";
  readonly M: number;
  readonly efConstruction: number;
}

/** Keys added at once, as a chunk of a prompt brings them. */
const CHUNK = 512;

/** The numbers of tokens asked for. */
export const COUNTS = [8, 32, 128] as const;

/** Of one key head, at one ef. */
export interface Searched {
  readonly ef: number;
  /** The share of the truly best 8, 32 and 128 tokens that were found. */
  readonly recall: readonly number[];
  /** The share of the best 32 tokens' attention, softmax over them alone, that the found ones have. */
  readonly mass: number;
  /** Processor time of a search for 32 tokens. */
  readonly microseconds: number;
}

/** Processor time in microseconds, of all threads; on a busy machine it says more than the clock. */
function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** Microseconds a query of an exact search for 32 tokens. */
export async function exactTime(search: ExactSearch, { queries }: Asked, heads: number): Promise<number> {
  await search.search(queries[0], 32);
  const begin = processorTime();
  for (const query of queries) await search.search(query, 32);
  return (processorTime() - begin) / queries.length / heads;
}

/** The truth: rows of the best 128 tokens of every query, one head after another. */
export async function truthOf(search: ExactSearch, { queries }: Asked): Promise<Int32Array[]> {
  const rows: Int32Array[] = [];
  for (const query of queries) rows.push(...(await search.search(query, Math.max(...COUNTS))));
  return rows;
}

/** Builds a graph and searches it with every ef. */
export function measure(
  build: Build,
  efs: readonly number[],
  asked: Asked,
  truth: readonly Int32Array[],
  dimension: number,
): { insertsPerSecond: number; bytesPerKey: number; searched: Searched[] } {
  const rows = asked.keys.length / dimension;
  const begin = processorTime();
  const graph = build.keys === "raw" ? raw(build, asked, dimension) : onSphere(build, asked, dimension);
  const insertsPerSecond = (1e6 * rows) / (processorTime() - begin);
  const queries = asked.queries.flatMap((group) =>
    Array.from({ length: group.length / dimension }, (_, i) => group.subarray(i * dimension, (i + 1) * dimension)),
  );
  const searched = efs.map((ef): Searched => {
    const search = graph.at(ef);
    const found = COUNTS.map((count) => {
      const start = processorTime();
      const all = queries.map((query) => search(query, Math.min(count, rows)));
      return { all, microseconds: (processorTime() - start) / queries.length };
    });
    return {
      ef,
      recall: COUNTS.map((count, i) =>
        mean(found[i].all.map((tokens, query) => recall(tokens, truth[query].subarray(0, count)))),
      ),
      mass: mean(found[1].all.map((tokens, i) => massOf(tokens, truth[i].subarray(0, 32), queries[i], asked.keys))),
      microseconds: found[1].microseconds,
    };
  });
  graph.dispose();
  return { insertsPerSecond, bytesPerKey: graph.bytes / rows, searched };
}

interface BuiltGraph {
  readonly bytes: number;
  at(ef: number): (query: Float32Array, count: number) => Int32Array;
  dispose(): void;
}

function onSphere(build: Build, { keys, examples }: Asked, dimension: number): BuiltGraph {
  const { M, efConstruction } = build;
  const index = hnswIndex({ M, efConstruction }).create(dimension, build.keys === "sphere" ? undefined : examples);
  for (let row = 0; row * dimension < keys.length; row += CHUNK)
    index.add(SINKS + row, keys.subarray(row * dimension, (row + CHUNK) * dimension));
  const { bytes } = index;
  let saved: Uint8Array | undefined;
  let last: KeyIndex | undefined;
  return {
    bytes,
    at(ef) {
      saved ??= index.save();
      index.dispose();
      last?.dispose();
      const searched = (last = hnswIndex({ M, efConstruction, ef }).restore(saved, dimension));
      return (query, count) => searched.search(query, count).map((token) => token - SINKS);
    },
    dispose: () => last?.dispose(),
  };
}

/** What the library does when it is given the keys and nothing else. */
function raw({ M, efConstruction }: Build, { keys }: Asked, dimension: number): BuiltGraph {
  const { HierarchicalNSW } = hnswlib();
  const index = new HierarchicalNSW("ip", dimension);
  const rows = keys.length / dimension;
  index.initIndex(rows, M, efConstruction, 100);
  for (let row = 0; row < rows; row++)
    index.addPoint(Array.from(keys.subarray(row * dimension, (row + 1) * dimension)), row);
  return {
    bytes: 0,
    at(ef) {
      index.setEf(ef);
      return (query, count) => Int32Array.from(index.searchKnn(Array.from(query), count).neighbors);
    },
    dispose: () => index.initIndex(1, M, efConstruction, 100),
  };
}

function recall(found: Int32Array, best: Int32Array): number {
  const all = new Set(found);
  return best.filter((row) => all.has(row)).length / best.length;
}

function massOf(found: Int32Array, best: Int32Array, query: Float32Array, keys: Float32Array): number {
  const size = query.length;
  const scores = Array.from(best, (row) => {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += query[i] * keys[row * size + i];
    return sum / Math.sqrt(size);
  });
  const weights = scores.map((score) => Math.exp(score - scores[0]));
  const all = new Set(found);
  const had = weights.reduce((sum, weight, i) => sum + (all.has(best[i]) ? weight : 0), 0);
  return had / weights.reduce((sum, weight) => sum + weight);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
