import { LongctxError, type KeyIndex } from "@longctx/core";
import { graphFile, isGraphFile, withTemporaryFile, writeGraphFile } from "./graph-files.ts";
import { Graph, type GraphOptions, type GraphRange } from "./hnsw-graph.ts";
import type { Hnswlib } from "./hnswlib.ts";
import type { Metric } from "./metric.ts";
import { damagedIndex, openIndex, savedIndex } from "./saved-index.ts";

/** The tokens [graph.first, end) of a graph, whose tokens from `end` on are forgotten. */
interface Part {
  readonly graph: Graph;
  end: number;
}

interface Candidate {
  readonly token: number;
  readonly distance: number;
}

/** Up to so many graphs are searched one after another; one more joins all of them to one graph. */
const MOST_PARTS = 4;

/** Keys go into a graph so many at a time, so that a graph does not depend on how many `add` was given at once. */
const BLOCK = 256;

/**
 * A KeyIndex of graphs of hnswlib, each over a run of tokens, and of the last few keys, which are compared one by one.
 * Forks share their graphs, and a graph that is shared is not written to: what is added after a fork goes into a graph
 * of one's own.
 */
export class HnswIndex implements KeyIndex {
  readonly #library: Hnswlib;
  readonly #dimension: number;
  readonly #options: GraphOptions;
  /** The coordinates that keys have in graphs; null where they are left as they are. */
  readonly #metric: Metric | null;
  #parts: Part[] = [];
  /** The keys [n, D] of the last tokens, fewer than a block, which are in no graph. */
  #waiting: Float32Array = new Float32Array(0);
  #length = 0;

  constructor(library: Hnswlib, dimension: number, options: GraphOptions, metric: Metric | null) {
    this.#library = library;
    this.#dimension = dimension;
    this.#options = options;
    this.#metric = metric;
  }

  get length(): number {
    return this.#length;
  }

  get bytes(): number {
    return this.#parts.reduce((sum, { graph }) => sum + graph.bytes, this.#waiting.byteLength);
  }

  add(first: number, keys: Float32Array): void {
    const dimension = this.#dimension;
    const count = keys.length / dimension;
    if (!Number.isInteger(count))
      throw new LongctxError(
        "argument",
        `${keys.length} numbers are no keys of ${dimension}; give the index rows of one key head.`,
      );
    if (first !== this.#length && this.#length > 0)
      throw new LongctxError(
        "argument",
        `The index ends before token ${this.#length}; add keys from there, not from ${first}.`,
      );
    const rows = new Float32Array(this.#waiting.length + keys.length);
    rows.set(this.#waiting);
    rows.set(keys, this.#waiting.length);
    const whole = Math.floor(rows.length / dimension / BLOCK) * BLOCK;
    if (whole > 0) this.#addBlocks(first - this.#waiting.length / dimension, rows.subarray(0, whole * dimension));
    this.#waiting = rows.slice(whole * dimension);
    this.#length = first + count;
  }

  search(query: Float32Array, count: number): Int32Array {
    if (query.length !== this.#dimension)
      throw new LongctxError(
        "argument",
        `A query of ${query.length} numbers cannot be compared with keys of ${this.#dimension}.`,
      );
    if (count < 1) return new Int32Array(0);
    const found: Candidate[] = [];
    const moved = this.#metric?.ofQuery(query) ?? query;
    for (const { graph, end } of this.#parts) {
      const { tokens, distances } = graph.search(moved, Math.min(count, end - graph.first), end);
      for (let i = 0; i < tokens.length; i++) found.push({ token: tokens[i], distance: distances[i] });
    }
    if (this.#parts.length > 1) found.sort(nearestFirst);
    this.#compare(query, found.length < count ? Infinity : found[count - 1].distance, found);
    found.sort(nearestFirst);
    return Int32Array.from(found.slice(0, count), ({ token }) => token);
  }

  truncate(length: number): void {
    if (length >= this.#length) return;
    const waiting = this.#waiting.length / this.#dimension - (this.#length - length);
    this.#waiting = this.#waiting.slice(0, Math.max(0, waiting) * this.#dimension);
    while (this.#parts.length > 0 && this.#parts.at(-1)!.graph.first >= length) this.#parts.pop()!.graph.release();
    const last = this.#parts.at(-1);
    if (last) last.end = Math.min(last.end, length);
    this.#length = this.#waiting.length > 0 ? length : (last?.end ?? 0);
  }

  fork(): HnswIndex {
    const copy = new HnswIndex(this.#library, this.#dimension, this.#options, this.#metric);
    for (const { graph, end } of this.#parts) {
      graph.users++;
      copy.#parts.push({ graph, end });
    }
    copy.#waiting = this.#waiting.slice();
    copy.#length = this.#length;
    return copy;
  }

  save(): Uint8Array {
    return savedIndex(
      {
        dimension: this.#dimension,
        options: this.#options,
        metric: this.#metric,
        length: this.#length,
        waiting: this.#waiting,
      },
      this.#parts.map(({ graph, end }) => ({
        range: graph,
        cut: end,
        file: withTemporaryFile((path) => graphFile(graph, path, this.#sizes(graph))),
      })),
    );
  }

  /** @throws LongctxError "file", "capacity" */
  static restore(library: Hnswlib, bytes: Uint8Array, dimension: number, options: GraphOptions): HnswIndex {
    const { length, metric, waiting, graphs } = openIndex(bytes, dimension, options);
    const index = new HnswIndex(library, dimension, options, metric);
    index.#waiting = waiting;
    index.#length = length;
    try {
      for (const { range, cut, file } of graphs) {
        if (!isGraphFile(file, index.#sizes(range))) throw damagedIndex();
        const graph = withTemporaryFile((path) => {
          writeGraphFile(path, file);
          return index.#read(path, range);
        });
        index.#parts.push({ graph, end: cut });
      }
    } catch (error) {
      index.dispose();
      throw error;
    }
    return index;
  }

  dispose(): void {
    for (const { graph } of this.#parts) graph.release();
    this.#parts = [];
    this.#waiting = new Float32Array(0);
    this.#length = 0;
  }

  /** Adds whole blocks of keys to the last graph, or to a new one where that is shared. */
  #addBlocks(first: number, rows: Float32Array): void {
    const keys = this.#metric?.ofKeys(rows) ?? rows;
    const end = first + keys.length / this.#dimension;
    const last = this.#parts.at(-1);
    if (last?.graph.users === 1) {
      last.graph.add(first, keys);
      last.end = end;
      return;
    }
    const joins = this.#parts.length === MOST_PARTS;
    const graph = joins
      ? this.#joined()
      : Graph.for(keys.subarray(0, BLOCK * this.#dimension), first, this.#library, this.#dimension, this.#options);
    try {
      graph.add(first, keys);
    } catch (error) {
      graph.release();
      throw error;
    }
    if (joins) for (const part of this.#parts.splice(0)) part.graph.release();
    this.#parts.push({ graph, end });
  }

  /** A graph of one's own with all tokens: a copy of the first graph, to which the keys of the others are added. */
  #joined(): Graph {
    const [{ graph: oldest, end }, ...others] = this.#parts;
    const graph = withTemporaryFile((path) => {
      graphFile(oldest, path, this.#sizes(oldest));
      return this.#read(path, oldest);
    });
    try {
      let at = end;
      for (const part of others) for (; at < part.end; at++) graph.add(at, part.graph.key(at));
      return graph;
    } catch (error) {
      graph.release();
      throw error;
    }
  }

  /** Adds those tokens that are in no graph and nearer than `farthest` to `found`. */
  #compare(query: Float32Array, farthest: number, found: Candidate[]): void {
    const dimension = this.#dimension;
    const keys = this.#waiting;
    const first = this.#length - keys.length / dimension;
    for (let row = 0; row < keys.length; row += dimension) {
      let product = 0;
      for (let i = 0; i < dimension; i++) product += query[i] * keys[row + i];
      if (1 - product < farthest) found.push({ token: first + row / dimension, distance: 1 - product });
    }
  }

  #sizes({ first, end }: GraphRange) {
    return { numbers: this.#dimension + 1, M: this.#options.M, count: end - first };
  }

  /** @throws LongctxError "file" where the library refuses what looks like one of its files */
  #read(path: string, range: GraphRange): Graph {
    try {
      return Graph.read(path, range, this.#library, this.#dimension, this.#options);
    } catch (cause) {
      throw damagedIndex(cause);
    }
  }
}

function nearestFirst(a: Candidate, b: Candidate): number {
  return a.distance - b.distance || a.token - b.token;
}
