import { LongctxError, type Session } from "@longctx/core";

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

export interface PerplexityOptions {
  /** Predictions in a block; 2048 unless given. */
  readonly block?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface Perplexity {
  readonly blocks: readonly BlockLoss[];
  readonly whole: BlockLoss;
}

/**
 * The loss of each token of a text after all before it, by block, read by an empty session. The text is read once, from
 * its beginning, so a token late in the text is predicted from as much as the session's method lets it see.
 * @throws LongctxError "argument" when there is nothing to predict, "device" when a loss is not finite
 */
export async function measurePerplexity(
  session: Session,
  ids: readonly number[],
  { block = 2048, signal, onProgress }: PerplexityOptions = {},
): Promise<Perplexity> {
  if (session.length > 0)
    throw new LongctxError("argument", `The session has read ${session.length} tokens before; use a new one.`);
  if (ids.length < 2)
    throw new LongctxError("argument", `A loss needs at least 2 tokens, but the text has ${ids.length}.`);
  if (!Number.isSafeInteger(block) || block < 1)
    throw new LongctxError("argument", `block is ${block}, but has to be a whole number of at least 1.`);
  const losses = new BlockLosses(ids, session.model.config.vocabSize, block);
  for await (const { first, rows, logits } of session.forward(ids, { logitRows: ids.length, signal, onProgress }))
    losses.add(first, rows, logits);
  return { blocks: losses.blocks(), whole: losses.whole() };
}

/** Losses of a text as its logits come; block k holds the predictions of tokens k·size + 1 … (k + 1)·size. */
class BlockLosses {
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
function negativeLogLikelihood(logits: Float32Array, id: number): number {
  let top = -Infinity;
  let sum = 0;
  // By index: iterators take twice as long, and there are as many logits as the text has tokens times the vocabulary.
  for (let i = 0; i < logits.length; i++) if (logits[i] > top) top = logits[i];
  for (let i = 0; i < logits.length; i++) sum += Math.exp(logits[i] - top);
  return top + Math.log(sum) - logits[id];
}
