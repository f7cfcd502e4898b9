import { LongctxError, type Capture, type Interval, type ModelConfig } from "@longctx/core";
import { attentionToText, largestOf, sumOfNeighbours } from "../reader/sentence-scores.ts";
import type { HeadProbe } from "./head-probe.ts";

/** How heads found the needle of one prompt. */
export interface Found {
  /** 1 where the needle's score is above that of every other sentence; other sentences of equal score come before it. */
  readonly rank: number;
  /** The needle's score over the best score of another sentence, at most 1e6; 0 where the needle's score is 0. */
  readonly margin: number;
}

/** Margins of needles beside which no other sentence has a score. */
const LARGEST_MARGIN = 1e6;

/** The scores of a prompt's tokens under each head: attention from all rows of the question, summed over phrases. */
export class ProbeScores {
  readonly kind: string;
  readonly heldOut: boolean;
  /** The tokens of each sentence, and whether it belongs to the needle; places are counted from the first sentence. */
  readonly #sentences: readonly Interval[];
  readonly #ofNeedle: readonly boolean[];
  readonly #size: number;
  /** [L · H, tokens of the text] */
  readonly #scores: Float32Array;

  constructor(
    probe: HeadProbe,
    capture: Pick<Capture, "attention">,
    { layerCount, queryHeads }: Pick<ModelConfig, "layerCount" | "queryHeads">,
    phrase: number,
  ) {
    const { kind, heldOut, sentences, needle } = probe;
    const text = { from: sentences[0].from, to: sentences[sentences.length - 1].to };
    this.kind = kind;
    this.heldOut = heldOut;
    this.#sentences = sentences.map(({ from, to }) => ({ from: from - text.from, to: to - text.from }));
    this.#ofNeedle = sentences.map(({ from, to }) => from < needle.to && to > needle.from);
    this.#size = text.to - text.from;
    this.#scores = new Float32Array(layerCount * queryHeads * this.#size);
    for (let layer = 0; layer < layerCount; layer++) {
      const sums = attentionToText(capture.attention(layer), text);
      for (let head = 0; head < queryHeads; head++)
        this.#scores.set(
          sumOfNeighbours(sums.subarray(head * this.#size, (head + 1) * this.#size), phrase),
          (layer * queryHeads + head) * this.#size,
        );
    }
  }

  /** Returns how heads find the needle by the sum of their scores; a head is layer · H + head. */
  found(heads: readonly number[]): Found {
    const sums = new Float64Array(this.#size);
    for (const head of heads) for (let i = 0; i < sums.length; i++) sums[i] += this.#scores[head * this.#size + i];
    return findNeedle(largestOf(sums, this.#sentences), this.#ofNeedle);
  }
}

/** Returns the rank and the margin of the needle, whose own score is the best of its sentences'. */
export function findNeedle(scores: ArrayLike<number>, ofNeedle: readonly boolean[]): Found {
  let needle = -Infinity;
  for (let i = 0; i < scores.length; i++) if (ofNeedle[i]) needle = Math.max(needle, scores[i]);
  let rank = 1;
  let other = 0;
  for (let i = 0; i < scores.length; i++) {
    if (ofNeedle[i]) continue;
    if (scores[i] >= needle) rank++;
    other = Math.max(other, scores[i]);
  }
  return { rank, margin: needle > 0 ? Math.min(LARGEST_MARGIN, needle / other) : 0 };
}

/** Checks that a prompt has what ranks are made from. @throws LongctxError "argument" */
export function checkProbe({ kind, ids, sentences, needle, question }: HeadProbe): void {
  const needles = sentences.filter(({ from, to }) => from < needle.to && to > needle.from).length;
  if (needles === 0 || needles === sentences.length)
    throw new LongctxError(
      "argument",
      `A probe of ${ids.length} tokens (${kind}) has ${sentences.length} sentences, ${needles} of them the needle's; a rank needs the needle and another sentence, so make the prompt longer.`,
    );
  if (question.from >= question.to || question.to > ids.length || question.from < sentences[sentences.length - 1].to)
    throw new LongctxError(
      "argument",
      `A probe of ${ids.length} tokens (${kind}) asks in tokens ${question.from} to ${question.to}; a question is behind the text and has a token at least.`,
    );
}
