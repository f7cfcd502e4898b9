/**
 * The attention mass of a layer: for each token and key head the sum of the token's attention probabilities over the
 * queries at a distance below the band's width, from which salient keys are chosen.
 */
export class AttentionMass {
  readonly keyHeads: number;
  /** [tokens, K] */
  sums: number[] = [];
  /** The text length up to which queries were counted; 0 where no plan asked for masses. */
  counted = 0;

  constructor(keyHeads: number) {
    this.keyHeads = keyHeads;
  }

  of(token: number, keyHead: number): number {
    return this.sums[token * this.keyHeads + keyHead] ?? 0;
  }

  add(token: number, keyHead: number, probability: number): void {
    const at = token * this.keyHeads + keyHead;
    while (this.sums.length <= at) this.sums.push(0);
    this.sums[at] += probability;
  }

  fork(): AttentionMass {
    const copy = new AttentionMass(this.keyHeads);
    copy.sums = this.sums.slice();
    copy.counted = this.counted;
    return copy;
  }
}
