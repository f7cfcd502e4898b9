import type { KeyIndex, KeyIndexMaker } from "../../method/key-index.ts";

/** The indexes of a layer as bytes, one of each key head, and what they are of. */
export interface SavedIndexes {
  readonly key: string;
  readonly heads: readonly Uint8Array[];
}

/**
 * The approximate indexes of a layer's keys, one for each key head, of the kind that the layer's plan asked for last. A
 * restored state has them as bytes until a plan brings the maker that reads these.
 */
export class KeyIndexes {
  /** Names the kind of index, the rotation of its keys and its first token. */
  #key: string | null = null;
  #heads: readonly KeyIndex[] = [];
  #saved: SavedIndexes | null = null;
  /** The text length to which a restored state was truncated before its bytes were read. */
  #length = Infinity;

  get bytes(): number {
    const saved = this.#saved?.heads.reduce((sum, { byteLength }) => sum + byteLength, 0) ?? 0;
    return this.#heads.reduce((sum, { bytes }) => sum + bytes, saved);
  }

  /**
   * Returns the indexes of a kind; null where there are none yet. Indexes of another kind are forgotten.
   * @throws LongctxError "file" where saved bytes are no such indexes
   */
  of(key: string, maker: KeyIndexMaker, dimension: number): readonly KeyIndex[] | null {
    if (this.#saved?.key === key) {
      this.#heads = this.#saved.heads.map((bytes) => maker.restore(bytes, dimension));
      for (const index of this.#heads) index.truncate(this.#length);
      this.#key = key;
      this.#saved = null;
    }
    if (this.#key === key) return this.#heads;
    this.release();
    return null;
  }

  /** Makes empty indexes; `examples` [n, D] are queries of each key head, or null where there are none yet. */
  create(
    key: string,
    maker: KeyIndexMaker,
    dimension: number,
    examples: readonly (Float32Array | undefined)[],
  ): readonly KeyIndex[] {
    this.release();
    this.#heads = examples.map((queries) => maker.create(dimension, queries));
    this.#key = key;
    return this.#heads;
  }

  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
    for (const index of this.#heads) index.truncate(length);
    if (length === 0) this.release();
  }

  /** Takes over what another layer's state has, by forks of its indexes. */
  copy(other: KeyIndexes): void {
    this.#key = other.#key;
    this.#heads = other.#heads.map((index) => index.fork());
    this.#saved = other.#saved;
    this.#length = other.#length;
  }

  save(): SavedIndexes | null {
    if (this.#saved && this.#length === Infinity) return this.#saved;
    return this.#key === null ? null : { key: this.#key, heads: this.#heads.map((index) => index.save()) };
  }

  restore(saved: SavedIndexes): void {
    this.#saved = saved;
    this.#length = Infinity;
  }

  release(): void {
    for (const index of this.#heads) index.dispose();
    this.#heads = [];
    this.#key = null;
    this.#saved = null;
    this.#length = Infinity;
  }
}
