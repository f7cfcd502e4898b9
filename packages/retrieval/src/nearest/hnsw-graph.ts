import { LongctxError } from "@longctx/core";
import type { Hnswlib, NativeIndex } from "./hnswlib.ts";

/** How a graph is built and searched; the paper's names (Malkov, Yashunin, arXiv:1603.09320). */
export interface GraphOptions {
  /** Neighbours a node keeps in each upper layer; twice as many in the lowest. */
  readonly M: number;
  /** Candidates kept while the neighbours of a new node are searched. */
  readonly efConstruction: number;
  /** Candidates kept while a query is searched. */
  readonly ef: number;
}

const FIRST_CAPACITY = 1024;
const GROWTH = 1.5;
/** The seed of the layers that nodes are drawn into. */
const SEED = 100;
/** Up to so many forgotten tokens, a search asks for as many more tokens; above, the library asks a filter instead. */
const MOST_SURPLUS = 256;
/** Later keys may be so many times as long as the longest of the first ones. */
const RADIUS = 2;

/** Tokens found, with distances 1 − q · k, ascending; of equal distances, smaller tokens first. */
export interface Found {
  readonly tokens: readonly number[];
  readonly distances: readonly number[];
}

/** The tokens [first, end) of a graph, and the radius R of its sphere. */
export interface GraphRange {
  readonly first: number;
  readonly end: number;
  readonly radius: number;
}

/**
 * A graph of the library over the keys of tokens [first, end), which several indexes may share, `users` of them. Only
 * an index that has the graph for itself may write to it.
 *
 * A graph needs neighbours that are near each other, and inner products are no measure of nearness: keys of a model
 * share a direction, a few long ones would be every key's neighbours, and most keys nobody's, so that no search reaches
 * them. So each key gets one more number, √(R² − |k|²), which puts all keys on a sphere of radius R, where the largest
 * inner product is the smallest distance; queries have 0 there, so their products stay as they are (Bachrach et al.
 * 2014, "Speeding up the Xbox recommender system using a Euclidean transformation for inner-product spaces").
 */
export class Graph implements GraphRange {
  readonly first: number;
  readonly radius: number;
  end: number;
  users = 1;
  readonly #native: NativeIndex;
  readonly #dimension: number;
  readonly #options: GraphOptions;
  #capacity: number;

  private constructor(native: NativeIndex, dimension: number, options: GraphOptions, range: GraphRange) {
    this.#native = native;
    this.#dimension = dimension;
    this.#options = options;
    this.first = range.first;
    this.end = range.end;
    this.radius = range.radius;
    this.#capacity = native.getMaxElements();
    native.setEf(options.ef);
  }

  /** An empty graph for tokens from `first` on, whose sphere has room for keys like these [n, D]. */
  static for(keys: Float32Array, first: number, library: Hnswlib, dimension: number, options: GraphOptions): Graph {
    const native = new library.HierarchicalNSW("ip", dimension + 1);
    native.initIndex(FIRST_CAPACITY, options.M, options.efConstruction, SEED);
    let longest = 0;
    for (let at = 0; at < keys.length; at += dimension)
      longest = Math.max(longest, squaredLength(keys.subarray(at, at + dimension)));
    return new Graph(native, dimension, options, { first, end: first, radius: RADIUS * Math.sqrt(longest) });
  }

  /** Reads a file that `write` wrote. @throws Error of the library */
  static read(path: string, range: GraphRange, library: Hnswlib, dimension: number, options: GraphOptions): Graph {
    const native = new library.HierarchicalNSW("ip", dimension + 1);
    native.readIndexSync(path);
    return new Graph(native, dimension, options, range);
  }

  /** Writes a file of the library; it does not look whether the disk takes it. */
  write(path: string): void {
    this.#native.writeIndexSync(path);
  }

  /** Estimated from what the library allocates: an element's links, key, label, level, lock, mark and entry in a map. */
  get bytes(): number {
    const { M } = this.#options;
    const element = 4 * (2 * M + 1) + 4 * (this.#dimension + 1) + 8 + 54;
    const upper = (4 * (M + 1) + 16) / Math.max(1, M - 1);
    return Math.round(this.#capacity * element + (this.end - this.first) * (48 + upper));
  }

  /** Adds or replaces the keys [n, D] of tokens [first, first + n), first ≤ end. @throws LongctxError "capacity" */
  add(first: number, keys: Float32Array): void {
    const dimension = this.#dimension;
    const count = keys.length / dimension;
    try {
      const needed = first + count - this.first;
      if (needed > this.#capacity) {
        const capacity = Math.max(needed, Math.ceil(GROWTH * this.#capacity));
        this.#native.resizeIndex(capacity);
        this.#capacity = capacity;
      }
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * dimension, (i + 1) * dimension);
        const rest = Math.sqrt(Math.max(0, this.radius ** 2 - squaredLength(key)));
        this.#native.addPoint([...key, rest], first + i);
        this.end = Math.max(this.end, first + i + 1);
      }
    } catch (cause) {
      throw new LongctxError(
        "capacity",
        `There is no memory for an index of ${first + count - this.first} keys (about ${Math.round(this.bytes / 1e6)} MB are used); give fewer layers to hnsw, a smaller M, or a shorter text.`,
        { cause },
      );
    }
  }

  key(token: number): Float32Array {
    return Float32Array.from(this.#native.getPoint(token).slice(0, -1));
  }

  /** Returns at most `count` of tokens [first, end) that are nearest to a query [D], `end` being at most the graph's. */
  search(query: Float32Array, count: number, end: number): Found {
    const point = [...query, 0];
    const forgotten = this.end - end;
    if (forgotten > MOST_SURPLUS) {
      const { neighbors, distances } = this.#native.searchKnn(point, count, (token) => token < end);
      return { tokens: neighbors, distances };
    }
    const { neighbors, distances } = this.#native.searchKnn(point, count + forgotten);
    if (forgotten === 0) return { tokens: neighbors, distances };
    const kept = neighbors.flatMap((token, i) => (token < end ? [i] : [])).slice(0, count);
    return { tokens: kept.map((i) => neighbors[i]), distances: kept.map((i) => distances[i]) };
  }

  /** Frees the memory at once where nobody else uses it; the garbage collector does not know how large it is. */
  release(): void {
    this.users--;
    if (this.users === 0) this.#native.initIndex(1, 2, 2, SEED);
  }
}

function squaredLength(row: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += row[i] ** 2;
  return sum;
}
