import { Capture, type FinishReason, type Interval, type LanguageModel, type Session } from "@longctx/core";
import type { Head } from "./heads-file.ts";
import { prepareScroll, type ScrollOptions, type ScrollParts, type ScrollPrompt } from "./scroll-options.ts";
import { sumOfNeighbours } from "./sentence-scores.ts";
import { sentencesOf } from "./sentences.ts";

/**
 * Text retrieval by the model's own attention. Ye, Wang and Wang, "Infinite Retrieval: Attention Enhanced LLMs in
 * Long-Context Processing" (InfiniRetri), 2025, arXiv:2502.12962. The text goes by in chunks of whole sentences. Each
 * chunk is read behind the sentences that were carried so far and before the question; the attention that all tokens of
 * the question pay to the text in a few heads says which sentences are carried on. The answer is generated from the best
 * of those that are left at the end, so that the model never sees more than a chunk, and only the reader sees the whole
 * text. It has to know the question before it reads.
 *
 * Deviations from the paper: a few heads that were measured to retrieve in place of the last layer's mean; a budget in
 * tokens of whole sentences in place of a number of top tokens; a sentence that does not fit is passed over; the answer
 * is read from fewer sentences than are carried.
 */

/** A sentence, or a piece of a long one: tokens [from, to) of the text. */
export interface ScoredSentence extends Interval {
  /** The most attention that the question paid to a phrase of it, summed over the question's tokens and the heads. */
  readonly score: number;
  /** The token in the middle of that phrase, by its place in the text. */
  readonly peak: number;
}

/** What became of a chunk: tokens [from, to) of the text. */
export interface ScrolledChunk extends Interval {
  /** What was carried on after the chunk, in order of the text. */
  readonly carried: readonly ScoredSentence[];
  /** The highest score of a sentence that was not carried on; 0 where all were. */
  readonly dropped: number;
}

export interface ScrollResult {
  /** The generated answer, its tokens, and why it ended. */
  readonly answer: string;
  readonly ids: readonly number[];
  readonly reason: FinishReason;
  /** Logits [V] after the question, from which the first token of the answer was drawn. */
  readonly logits: Float32Array;
  /** The sentences that the answer was generated from, in order of the text. */
  readonly answeredFrom: readonly ScoredSentence[];
  readonly chunks: readonly ScrolledChunk[];
  /** The number of tokens that the model read, carried ones again with each chunk, the answer's prompt included. */
  readonly tokensRead: number;
  /** The bytes of the reader's session, which do not grow with the text. */
  readonly bytes: number;
}

/**
 * Answers a question about a text of any length.
 * @throws LongctxError "argument" when a parameter is impossible, the parts do not fit the model's trained window, or no
 * heads are known for the model; "aborted" when the signal ended the reading
 */
export async function scroll(
  model: LanguageModel,
  prompt: ScrollPrompt,
  options: ScrollOptions = {},
): Promise<ScrollResult> {
  const { signal, onProgress } = options;
  const { parts, sizes, heads, capacity } = prepareScroll(model, prompt, options);
  const reader = new Reader(model.session({ capacity }), parts, heads, sizes.phrase, signal);
  try {
    const chunks: ScrolledChunk[] = [];
    let carried: readonly ScoredSentence[] = [];
    for (const sentences of chunksOf(sentencesOf(parts.text, model.tokenizer!, sizes.chunk), sizes.chunk)) {
      const scored = await reader.scored([...carried, ...sentences]);
      carried = bestOf(scored, sizes.budget);
      const kept = new Set(carried.map(({ peak }) => peak));
      const dropped = scored.reduce((most, { score, peak }) => (kept.has(peak) ? most : Math.max(most, score)), 0);
      chunks.push({ from: sentences[0].from, to: sentences.at(-1)!.to, carried, dropped });
      onProgress?.(chunks.at(-1)!.to, parts.text.length);
    }
    const answeredFrom = bestOf(carried, sizes.answer);
    const logits = await reader.readWhole(answeredFrom);
    const generation = reader.session.generate(options);
    const answer = await generation.complete();
    const { ids, reason } = generation;
    const { tokensRead, session } = reader;
    return { answer, ids, reason: reason!, logits, answeredFrom, chunks, tokensRead, bytes: session.bytes };
  } finally {
    reader.session.dispose();
  }
}

/** One session that reads sentences of the text in their frame, again and again. */
class Reader {
  readonly session: Session;
  tokensRead = 0;
  readonly #parts: ScrollParts;
  readonly #heads: readonly Head[];
  readonly #phrase: number;
  readonly #signal: AbortSignal | undefined;

  constructor(
    session: Session,
    parts: ScrollParts,
    heads: readonly Head[],
    phrase: number,
    signal: AbortSignal | undefined,
  ) {
    this.session = session;
    this.#parts = parts;
    this.#heads = heads;
    this.#phrase = phrase;
    this.#signal = signal;
  }

  /** Scores sentences, which are read one after another, by the question's attention to them. */
  async scored(sentences: readonly Interval[]): Promise<ScoredSentence[]> {
    const { before, question } = this.#parts;
    const ids = this.#framed(sentences);
    const end = ids.length - question.length;
    const capture = new Capture({ heads: this.#heads, rows: { from: end, to: ids.length } });
    const stopAfter = Math.max(...this.#heads.map(([layer]) => layer));
    // Only the question's pass is looked at, so that a device does not stop for the others.
    await this.#read(ids.slice(0, end), { stopAfter, length: ids.length });
    await this.#read(ids, { stopAfter, length: ids.length, capture });
    const attention = attentionTo({ from: before.length, to: end }, capture, this.#heads);
    const phrases = sumOfNeighbours(attention, this.#phrase);
    let at = 0;
    return sentences.map(({ from, to }) => {
      const begin = at;
      at += to - from;
      let best = begin;
      for (let i = begin; i < at; i++) if (phrases[i] > phrases[best]) best = i;
      return { from, to, score: phrases[best], peak: from + best - begin };
    });
  }

  /** Reads sentences and question in all layers and returns logits [V] after the question. */
  readWhole(sentences: readonly Interval[]): Promise<Float32Array> {
    this.session.truncate(Math.min(this.#parts.before.length, this.session.length));
    return this.#read(this.#framed(sentences), {});
  }

  #framed(sentences: readonly Interval[]): number[] {
    const { before, text, question } = this.#parts;
    return [...before, ...sentences.flatMap(({ from, to }) => text.slice(from, to)), ...question];
  }

  /** Reads `ids` from where they part from what the session holds; the frame's beginning is read by all layers, once. */
  async #read(ids: readonly number[], options: Parameters<Session["prefill"]>[1]): Promise<Float32Array> {
    const { session } = this;
    const { before } = this.#parts;
    if (session.length === 0 && before.length > 0) {
      await session.prefill(before, { signal: this.#signal, length: ids.length, logitRows: 0 });
      this.tokensRead += before.length;
    }
    session.truncate(inCommon(session.tokens, ids));
    const rest = ids.slice(session.length);
    if (rest.length === 0) return new Float32Array(0); // a text that repeats itself
    this.tokensRead += rest.length;
    return session.prefill(rest, { signal: this.#signal, ...options });
  }
}

/** Returns the attention that the captured rows pay to each token of a range, summed over rows and heads. */
function attentionTo({ from, to }: Interval, capture: Capture, heads: readonly Head[]): Float64Array {
  const sums = new Float64Array(to - from);
  for (const layer of new Set(heads.map(([one]) => one))) {
    for (const { tokens, weights } of capture.attention(layer)) {
      for (let row = 0; row < weights.length; row += tokens)
        for (let token = from; token < to; token++) sums[token - from] += weights[row + token];
    }
  }
  return sums;
}

/**
 * Returns the sentences with the highest scores, whole and in order of the text, up to `budget` tokens together. A
 * sentence that does not fit is passed over; of one that alone is longer than the budget, the tokens around its peak are
 * taken.
 */
export function bestOf(sentences: readonly ScoredSentence[], budget: number): ScoredSentence[] {
  const taken: ScoredSentence[] = [];
  let left = budget;
  for (const sentence of [...sentences].sort((a, b) => b.score - a.score || a.from - b.from)) {
    const size = sentence.to - sentence.from;
    if (size > left && size <= budget) continue;
    const part = size > left ? aroundPeak(sentence, left) : sentence;
    left -= part.to - part.from;
    if (part.to > part.from) taken.push(part);
  }
  return taken.sort((a, b) => a.from - b.from);
}

function aroundPeak(sentence: ScoredSentence, count: number): ScoredSentence {
  const from = Math.max(sentence.from, Math.min(sentence.peak - (count >> 1), sentence.to - count));
  return { ...sentence, from, to: from + count };
}

/** Yields consecutive sentences in chunks of at most `size` tokens; no sentence is longer. */
function* chunksOf(sentences: Iterable<Interval>, size: number): Generator<Interval[], void, undefined> {
  let chunk: Interval[] = [];
  for (const sentence of sentences) {
    if (chunk.length > 0 && sentence.to - chunk[0].from > size) {
      yield chunk;
      chunk = [];
    }
    chunk.push(sentence);
  }
  if (chunk.length > 0) yield chunk;
}

function inCommon(a: readonly number[], b: readonly number[]): number {
  let same = 0;
  while (same < a.length && same < b.length && a[same] === b[same]) same++;
  return same;
}
