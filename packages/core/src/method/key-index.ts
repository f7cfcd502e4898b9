/**
 * A nearest-neighbour index of the keys of one layer and one key head, searched by inner product. Labels are text indices
 * of tokens.
 */
export interface KeyIndex {
  /** The text index after the last indexed token. */
  readonly length: number;
  /** The memory that the index takes, in bytes, estimated where a library does not tell. */
  readonly bytes: number;
  /** Indexes keys [n, D] of consecutive tokens from text index `first` on. */
  add(first: number, keys: Float32Array): void;
  /**
   * Returns at most `count` tokens with the approximately largest q · k for a query [D], best first; of equal scores,
   * smaller tokens first.
   */
  search(query: Float32Array, count: number): Int32Array;
  /** Forgets tokens from `length` on. */
  truncate(length: number): void;
  fork(): KeyIndex;
  save(): Uint8Array;
  dispose(): void;
}

/** Makes indexes of keys; a library's adapter is one (`hnsw` in packages/retrieval). */
export interface KeyIndexMaker {
  /** Names the kind of index and its parameters; equal ids mean equal indexes. */
  readonly id: string;
  create(dimension: number): KeyIndex;
  /** @throws LongctxError "file" when the bytes are not an index of this kind and dimension */
  restore(bytes: Uint8Array, dimension: number): KeyIndex;
}
