import { LongctxError } from "longctx";

/** The mean loss over the predictions of tokens from..to (text indices, both included). */
export interface BlockLoss {
  readonly from: number;
  readonly to: number;
  readonly predictions: number;
  /** Mean of −ln p. */
  readonly nats: number;
  /** e^nats. */
  readonly perplexity: number;
}

/** Losses of a text as its logits come; block k holds the predictions of tokens k·size + 1 … (k + 1)·size. */
export class BlockLosses {
  readonly #ids: readonly number[];
  readonly #vocabSize: number;
  readonly #size: number;
  readonly #sums: number[] = [];
  readonly #counts: number[] = [];

  constructor(ids: readonly number[], vocabSize: number, size: number) {
    this.#ids = ids;
    this.#vocabSize = vocabSize;
    this.#size = size;
  }

  /** Logits [rows, V] of the tokens from text index `first` on; the row of token n predicts token n + 1. */
  add(first: number, rows: number, logits: Float32Array): void {
    for (let row = 0; row < rows; row++) {
      const next = this.#ids[first + row + 1];
      if (next === undefined) return; // the last token predicts what is not there
      const block = Math.floor((first + row) / this.#size);
      const loss = negativeLogLikelihood(logits.subarray(row * this.#vocabSize, (row + 1) * this.#vocabSize), next);
      if (!Number.isFinite(loss))
        throw new LongctxError(
          "device",
          `The loss of token ${first + row + 1} is ${loss}; the weights or a method's parameters make the model overflow.`,
        );
      this.#sums[block] = (this.#sums[block] ?? 0) + loss;
      this.#counts[block] = (this.#counts[block] ?? 0) + 1;
    }
  }

  blocks(): BlockLoss[] {
    return this.#sums.map((sum, k) => blockLoss(k * this.#size + 1, sum, this.#counts[k]));
  }

  whole(): BlockLoss {
    const total = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
    return blockLoss(1, total(this.#sums), total(this.#counts));
  }
}

function blockLoss(from: number, sum: number, predictions: number): BlockLoss {
  const nats = sum / predictions;
  return { from, to: from + predictions - 1, predictions, nats, perplexity: Math.exp(nats) };
}

/** −ln softmax(logits)[id], summed in float64. */
export function negativeLogLikelihood(logits: Float32Array, id: number): number {
  let top = -Infinity;
  let sum = 0;
  // By index: iterators take twice as long, and there are as many logits as the text has tokens times the vocabulary.
  for (let i = 0; i < logits.length; i++) if (logits[i] > top) top = logits[i];
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - top);
  return top + Math.log(sum) - logits[id];
}
