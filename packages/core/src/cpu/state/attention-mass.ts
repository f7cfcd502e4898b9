const FIRST_TOKENS = 256;

/**
 * The attention mass of a layer, from which salient keys are chosen: for each token and key head the sum of the token's
 * attention probabilities over the queries within a band of distances and the key head's query heads.
 */
export class AttentionMass {
  readonly #keyHeads: number;
  /** [tokens, K] */
  #sums = new Float32Array(0);
  /** The text length up to which queries were counted; 0 where no plan asked for masses. */
  counted = 0;

  constructor(keyHeads: number) {
    this.#keyHeads = keyHeads;
  }

  get bytes(): number {
    return this.#sums.byteLength;
  }

  of(token: number, head: number): number {
    return this.#sums[token * this.#keyHeads + head];
  }

  /** Makes room for tokens before `length`, whose queries are about to be counted. */
  extend(length: number): void {
    const size = length * this.#keyHeads;
    if (size > this.#sums.length) {
      const grown = new Float32Array(Math.max(size, FIRST_TOKENS * this.#keyHeads, 2 * this.#sums.length));
      grown.set(this.#sums);
      this.#sums = grown;
    }
    this.counted = length;
  }

  /** Adds factor · probabilities[i] to token first + i of a key head. */
  add(first: number, head: number, probabilities: Float32Array, factor = 1): void {
    let at = first * this.#keyHeads + head;
    for (let i = 0; i < probabilities.length; i++, at += this.#keyHeads) this.#sums[at] += factor * probabilities[i];
  }

  /** Returns the sums [counted, K], as a view. */
  get sums(): Float32Array {
    return this.#sums.subarray(0, this.counted * this.#keyHeads);
  }

  /** Takes over what another one has counted. */
  copy(other: AttentionMass): void {
    this.#sums = other.sums.slice();
    this.counted = other.counted;
  }

  clear(): void {
    this.#sums = new Float32Array(0);
    this.counted = 0;
  }
}
