import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  Capture,
  LanguageModel,
  load,
  scroll,
  type ScoredSentence,
  type ScrollOptions,
  type ScrollPrompt,
} from "longctx";
import { needleTask, type BoundTask, type Prompt } from "../../tasks/src/index.ts";
import { modelOf } from "./devices.ts";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";

const SIZES = { chunk: 100, phrase: 3, budget: 40, answer: 20 };
const HEADS = [[1, 0], [1, 2]] as const; // prettier-ignore

describe("scroll", () => {
  let model: LanguageModel;
  let task: BoundTask;
  beforeAll(async () => {
    model = await load("tiny", { device: "cpu" });
    task = needleTask({ needles: 3 }).bind(model.tokenizer!);
  });
  afterAll(() => model?.dispose());

  const prompt = (length: number, depth: number, trial = 0): Prompt => task.prompt({ length, depth, trial, seed: 4 });
  const partsOf = ({ ids, passage: { start, end } }: Prompt) => ({
    before: ids.slice(0, start),
    text: ids.slice(start, end),
    question: ids.slice(end),
  });

  it("finds in 2,048 tokens what a model of 256 has to answer, wherever it stands among others like it", async () => {
    for (const [trial, depth] of [0, 50, 100].entries()) {
      const asked = prompt(2048, depth, trial);
      const { answer, chunks, answeredFrom } = await scroll(model, partsOf(asked), { maxNew: 1 });
      expect(answer.trim()).toBe(asked.needles[0].value);
      const place = asked.needles[0].start - asked.passage.start;
      expect(chunks.at(-1)!.carried.some(({ from, to }) => from <= place && place < to)).toBe(true);
      expect(answeredFrom.some(({ from, to }) => from <= place && place < to)).toBe(true);
    }
  });

  it("carries what the definition says, chunk by chunk", async () => {
    const parts = partsOf(prompt(500, 30));
    const { chunks, answeredFrom, ids, logits } = await scroll(model, parts, { ...SIZES, heads: HEADS, maxNew: 2 });
    let carried: Span[] = [];
    for (const chunk of chunks) {
      expect(chunk.to - chunk.from).toBeLessThanOrEqual(SIZES.chunk);
      const scored = await scoredByDefinition([...carried, ...sentencesOf(chunk.from, chunk.to, parts.text)], parts);
      const kept = chosenByDefinition(scored, SIZES.budget);
      expect(spans(chunk.carried)).toEqual(spans(kept));
      chunk.carried.forEach(({ score }, i) => expect(score).toBeCloseTo(kept[i].score, 4));
      const dropped = scored.filter((one) => !kept.includes(one)).map(({ score }) => score);
      expect(chunk.dropped).toBeCloseTo(Math.max(0, ...dropped), 4);
      carried = kept;
    }
    expect([chunks[0].from, chunks.at(-1)!.to]).toEqual([0, parts.text.length]);
    chunks.slice(1).forEach(({ from }, i) => expect(from).toBe(chunks[i].to));
    const last = chosenByDefinition(chunks.at(-1)!.carried, SIZES.answer);
    expect(spans(answeredFrom)).toEqual(spans(last));
    const session = model.session();
    const read = [...parts.before, ...last.flatMap(({ from, to }) => parts.text.slice(from, to)), ...parts.question];
    expect(largest(await session.prefill(read), logits)).toBeLessThan(1e-4);
    const plain = session.generate({ maxNew: 2 });
    await plain.complete();
    expect(plain.ids).toEqual(ids);
  });

  interface Span {
    readonly from: number;
    readonly to: number;
    readonly score: number;
  }
  const spans = (of: readonly Span[]) => of.map(({ from, to }) => [from, to]);

  /** Sentences of the world end with a full stop. */
  function sentencesOf(from: number, to: number, text: readonly number[]): Span[] {
    const stop = model.tokenizer!.encode(" .", { special: false })[0];
    const found: Span[] = [];
    for (let begin = from, token = from; token < to; token++) {
      if (text[token] !== stop) continue;
      found.push({ from: begin, to: token + 1, score: 0 });
      begin = token + 1;
    }
    return found;
  }

  /** Scores from a whole pass that captures every row and head. */
  async function scoredByDefinition(sentences: readonly Span[], { before, text, question }: Parts): Promise<Span[]> {
    const middle = sentences.flatMap(({ from, to }) => text.slice(from, to));
    const read = [...before, ...middle, ...question];
    const capture = new Capture({ layers: [1], hidden: false, attention: true });
    const session = model.session({ chunk: 256 });
    await session.prefill(read, { capture });
    session.dispose();
    const [{ weights }] = capture.attention(1);
    const paid = middle.map((_, token) => {
      let sum = 0;
      for (const [, head] of HEADS)
        for (let row = read.length - question.length; row < read.length; row++)
          sum += weights[(head * read.length + row) * read.length + before.length + token];
      return sum;
    });
    const phrase = paid.map((_, i) => (paid[i - 1] ?? 0) + paid[i] + (paid[i + 1] ?? 0));
    let at = 0;
    return sentences.map(({ from, to }) => ({ from, to, score: Math.max(...phrase.slice(at, (at += to - from))) }));
  }

  it("carries whole sentences, no more tokens than were asked for", async () => {
    const parts = partsOf(prompt(700, 60));
    const { chunks } = await scroll(model, parts, { chunk: 64, phrase: 1, budget: 30, answer: 10, maxNew: 0 });
    for (const { carried } of chunks) {
      expect(carried.reduce((sum, { from, to }) => sum + to - from, 0)).toBeLessThanOrEqual(30);
      for (const { to } of carried) expect(model.tokenizer!.decode([parts.text[to - 1]])).toBe(".");
    }
  });

  it("takes texts, and tells how far it is", async () => {
    const text = "a child ran past the old bridge . ".repeat(60) + "remember : jade falcon . " + "the queen slept . ".repeat(50); // prettier-ignore
    const told: (readonly [number, number])[] = [];
    const { answer, chunks, tokensRead } = await scroll(
      model,
      { before: "", text, question: " remember : jade" },
      { maxNew: 1, onProgress: (done, total) => told.push([done, total]) },
    );
    expect(answer.trim()).toBe("falcon");
    const total = model.tokenizer!.encode(text, { special: false }).length;
    expect(told).toEqual(chunks.map(({ to }) => [to, total]));
    expect(told.at(-1)).toEqual([total, total]);
    expect(tokensRead).toBeLessThan(2 * total); // repeated chunks are not read again
  });

  it("ends where its signal says so", async () => {
    const controller = new AbortController();
    const parts = partsOf(prompt(2048, 50));
    const reading = scroll(model, parts, { signal: controller.signal, onProgress: (done) => done > 500 && controller.abort() }); // prettier-ignore
    await expect(reading).rejects.toMatchObject({ code: "aborted" });
    const stopped = scroll(model, parts, { signal: AbortSignal.abort() });
    await expect(stopped).rejects.toMatchObject({ code: "aborted" });
  });

  it.each<[string, Partial<ScrollPrompt>, ScrollOptions, RegExp]>([
    ["an empty question", { question: [] }, {}, /scroll: the question is empty/],
    ["an empty text", { text: "" }, {}, /scroll: the text is empty/],
    ["no heads", {}, { heads: [] }, /no heads are given/],
    ["a layer that is not there", {}, { heads: [[4, 0]] }, /the model has no head 4\.0; its layers go from 0 to 3/],
    ["a head that is not there", {}, { heads: [[0, -1]] }, /the model has no head 0\.-1; .* query heads from 0 to 3/],
    ["a chunk of none", {}, { chunk: 0 }, /chunk is 0; give a whole number of tokens/],
    ["half a phrase", {}, { phrase: 1.5 }, /phrase is 1\.5/],
    ["a budget that is no number", {}, { budget: NaN }, /budget is NaN/],
    [
      "an answer of more than is carried",
      {},
      { answer: 50, budget: 40 },
      /answer is 50 tokens, but only 40 are carried/,
    ],
    ["more than the window", {}, { chunk: 220 }, /budget of 64 and a chunk of 220 are 288 tokens together, but the model's window has 256/], // prettier-ignore
    ["a longer answer than the window", {}, { maxNew: 240 }, /32 of text and 240 new ones are 276 tokens/],
    ["new tokens that are none", {}, { maxNew: -1 }, /maxNew is -1/],
  ])("refuses %s before it reads", async (_, part, options, message) => {
    const parts = { ...partsOf(prompt(256, 0)), ...part };
    await expect(scroll(model, parts, options)).rejects.toMatchObject({ code: "argument", message: expect.stringMatching(message) as string }); // prettier-ignore
  });

  it("refuses models of which no heads are known, and such without a tokenizer", async () => {
    const config = tinyConfig({ maxPositions: 512, trainedWindow: 512 });
    const bare = modelOf("reference", config, tinyWeights(config));
    await expect(scroll(bare, { text: [1], question: [2] })).rejects.toThrow(/without a tokenizer/);
    const { backend } = bare;
    const unknown = new LanguageModel({ backend, tokenizer: model.tokenizer, chatTemplate: null });
    await expect(scroll(unknown, { text: [1], question: [2] })).rejects.toThrow(
      /no heads are known.*`longctx heads MODEL`/,
    );
  });
});

type Parts = Readonly<Record<"before" | "text" | "question", readonly number[]>>;

/** The best of whole sentences that fit, best first; those of the world are shorter than the budget. */
function chosenByDefinition<Sentence extends Pick<ScoredSentence, "from" | "to" | "score">>(
  sentences: readonly Sentence[],
  budget: number,
): Sentence[] {
  const taken: Sentence[] = [];
  let left = budget;
  for (const one of sentences.toSorted((a, b) => b.score - a.score)) {
    if (one.to - one.from > left) continue;
    taken.push(one);
    left -= one.to - one.from;
  }
  return taken.sort((a, b) => a.from - b.from);
}

function largest(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}
