import { LongctxError, type Tokenizer } from "@longctx/core";
import { assemble, promptContent, TokenCounter, type Piece } from "./assemble.ts";
import { Draws } from "./draws.ts";
import { tokenizerFingerprint } from "./fingerprint.ts";
import { firstWord } from "./scoring.ts";
import type { BoundTask, Task } from "./task.ts";
import { WORLD } from "./world.ts";

export interface NeedleOptions {
  /** Needles in a prompt, the asked one included; 1 unless given. The others stand at random depths. */
  readonly needles?: number;
}

/**
 * `remember : amber walnut .` hidden in the prose of a small world; asked is `remember : amber`. The words are those
 * that the embedded model knows; any other model can be asked too. @throws LongctxError "argument"
 */
export function needleTask({ needles = 1 }: NeedleOptions = {}): Task {
  if (!Number.isInteger(needles) || needles < 1 || needles > WORLD.keys.length) {
    throw new LongctxError(
      "argument",
      `The needle task cannot hide ${needles} needles; give a whole number from 1 to ${WORLD.keys.length}.`,
    );
  }
  const task: Task = {
    name: "needle",
    version: 1,
    params: { needles },
    scorer: "first-word",
    score: firstWord,
    bind: (tokenizer) => bindNeedle(task, needles, tokenizer),
  };
  return task;
}

function bindNeedle(task: Task, needles: number, tokenizer: Tokenizer): BoundTask {
  const counter = new TokenCounter(tokenizer);
  const fingerprint = tokenizerFingerprint(tokenizer);
  return {
    task,
    tokenizer: fingerprint,
    maxNew: Math.max(...WORLD.values.map((value) => counter.count(` ${value}`))),
    prompt: (cell) => {
      const content = promptContent(task, cell, fingerprint);
      const draws = new Draws(content);
      const keys = draws.sample(WORLD.keys, needles);
      const values = draws.sample(WORLD.values, needles);
      const hidden = keys.map((key, index) => ({
        key,
        value: values[index],
        asked: index === 0,
        text: sentenceOf(key, values[index]),
      }));
      const question = ` remember : ${keys[0]}`;
      // The first sentence of a text has no space before it, which some tokenizers count differently: one token to spare.
      const fixed =
        tokenizer.encode(question).length + hidden.reduce((sum, needle) => sum + counter.count(` ${needle.text}`), 0);
      const hay = fill(draws, counter, cell.length - fixed, cell.length);
      const places = hidden.map((_, index) =>
        index === 0 ? Math.round((cell.depth / 100) * hay.length) : draws.integer(0, hay.length),
      );
      const pieces: Piece[] = [];
      let from = 0;
      for (const index of places.map((_, at) => at).sort((a, b) => places[a] - places[b] || b - a)) {
        pieces.push({ text: spaced(hay.slice(from, places[index])), hay: true });
        const { text, ...needle } = hidden[index];
        pieces.push({ text: ` ${text}`, needle });
        from = places[index]!;
      }
      pieces.push({ text: spaced(hay.slice(from)), hay: true }, { text: question, frame: true });
      const first = pieces.findIndex((piece) => piece.text !== "");
      pieces[first] = { ...pieces[first], text: pieces[first].text.slice(1) };
      const prompt = assemble(pieces, tokenizer, {
        content,
        answer: ` ${values[0]}`,
        refs: [values[0]],
        haystack: "world",
      });
      if (prompt.ids.length > cell.length)
        throw new LongctxError(
          "argument",
          `The tokenizer makes ${prompt.ids.length} tokens of a prompt whose parts have ${cell.length}; use another task with this model.`,
        );
      return prompt;
    },
  };
}

function sentenceOf(key: string, value: string): string {
  return `remember : ${key} ${value} .`;
}

function spaced(sentences: readonly string[]): string {
  return sentences.map((sentence) => ` ${sentence}`).join("");
}

function draw(draws: Draws): string {
  const ending = draws.chance(0.6) ? ` ${draws.pick(WORLD.endings)}` : "";
  return `${draws.pick(WORLD.subjects)} ${draws.pick(WORLD.verbs)} ${draws.pick(WORLD.objects)}${ending} .`;
}

/** Sentences of `budget` tokens together, or a little less. */
function fill(draws: Draws, counter: TokenCounter, budget: number, length: number): string[] {
  const sentences: string[] = [];
  let left = budget;
  for (;;) {
    const sentence = draw(draws);
    const tokens = counter.count(` ${sentence}`);
    if (tokens > left) break;
    sentences.push(sentence);
    left -= tokens;
  }
  if (sentences.length === 0)
    throw new LongctxError(
      "argument",
      `${length} tokens are too few for a needle prompt: ${length - budget} go to needles and question. Ask for at least ${length - budget + 20}.`,
    );
  // Sentences are exchanged for longer ones until nothing is left over.
  for (let attempt = 0; left > 0 && attempt < 500; attempt++) {
    const at = draws.integer(0, sentences.length - 1);
    const sentence = draw(draws);
    const gain = counter.count(` ${sentence}`) - counter.count(` ${sentences[at]}`);
    if (gain <= 0 || gain > left) continue;
    sentences[at] = sentence;
    left -= gain;
  }
  return sentences;
}
