/**
 * A nearest-neighbour index over the keys of one layer and one key head, in which a query finds the tokens with the
 * largest inner products q · k. Tokens are named by their text index. An index holds a run of consecutive tokens that
 * ends before token `length`; where an index is approximate, a search may miss some of the best tokens.
 */
export interface KeyIndex {
  /** The text index after the last token in the index; 0 while the index is empty. */
  readonly length: number;
  /** The estimated memory of the index, in bytes; memory that forks share counts in each of them. */
  readonly bytes: number;
  /**
   * Adds the keys [n, D] of tokens [first, first + n). `first` equals `length`, unless the index is empty, which may
   * begin at any token (behind the sinks). Many tokens in one call cost less than as many calls.
   * @throws LongctxError "argument" where tokens are left out or the keys are no rows of D numbers, "capacity" where
   * there is no memory, which leaves the index as it was
   */
  add(first: number, keys: Float32Array): void;
  /**
   * Returns at most `count` tokens with the largest q · k for a query [D], best first; of equal products, the smaller
   * token comes first. `count` above the number of indexed tokens returns all that the index finds.
   * @throws LongctxError "argument" where the query has another size than D
   */
  search(query: Float32Array, count: number): Int32Array;
  /** Forgets all tokens from `length` on; `add` may bring other keys for them. */
  truncate(length: number): void;
  /** Returns an index with the same tokens; what one of both adds or forgets afterwards is unknown to the other. */
  fork(): KeyIndex;
  /** Returns the index as bytes, which `KeyIndexMaker.restore` takes. @throws LongctxError "capacity" */
  save(): Uint8Array;
  /** Frees the memory of the index, as far as no fork uses it; the index is not used afterwards. */
  dispose(): void;
}

/** Makes the indexes of keys that a method searches; a method brings one, because the core has no such library. */
export interface KeyIndexMaker {
  /** The kind of index with its parameters, as a session's key names it: "hnsw M=16 efConstruction=200 ef=128". */
  readonly id: string;
  /**
   * Returns an empty index of keys with `dimension` numbers. `examples` [n, D] are queries such as those that will be
   * asked, some hundred or more; an approximate index that knows them finds more of the best tokens in the same time.
   * @throws LongctxError "method" where the library is missing
   */
  create(dimension: number, examples?: Float32Array): KeyIndex;
  /**
   * Returns the index that `save` wrote. @throws LongctxError "file" where the bytes are corrupt, cut off or from an
   * index of another kind or dimension, "method" where the library is missing
   */
  restore(bytes: Uint8Array, dimension: number): KeyIndex;
}
