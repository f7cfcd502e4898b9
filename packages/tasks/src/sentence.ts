import { LongctxError, type Tokenizer } from "@longctx/core";
import { assemble, promptContent, TokenCounter, type Piece } from "./assemble.ts";
import { Draws } from "./draws.ts";
import { tokenizerFingerprint } from "./fingerprint.ts";
import { fitting, joined, proseHay, unitsBefore, type Hay } from "./haystack.ts";
import { INSTRUCTION } from "./passkey.ts";
import { FACTS, type Fact } from "./probes/facts.ts";
import { containsPhrase } from "./scoring.ts";
import type { BoundTask, Prompt, Task } from "./task.ts";

const MAX_NEW = 16;

export interface SentenceOptions {
  /** Ask in other words than those of the needle. */
  readonly paraphrase?: boolean;
}

/**
 * One of 24 made-up facts among sentences of Jane Austen, such as "Old Tomas the beekeeper sold his orchard for eleven silver
 * spoons.", asked by a question with the opening of its answer. No word of the question says that it is about a needle, so a
 * method has to find the sentence by what it says. No chat template.
 */
export function sentenceTask({ paraphrase = false }: SentenceOptions = {}): Task {
  const task: Task = {
    name: "sentence",
    version: 1,
    params: { paraphrase },
    scorer: "contains-phrase",
    score: containsPhrase,
    bind: (tokenizer) => bindSentence(task, paraphrase, tokenizer),
  };
  return task;
}

function bindSentence(task: Task, paraphrase: boolean, tokenizer: Tokenizer): BoundTask {
  const counter = new TokenCounter(tokenizer);
  const fingerprint = tokenizerFingerprint(tokenizer);
  return {
    task,
    tokenizer: fingerprint,
    maxNew: MAX_NEW,
    prompt: (cell) => {
      const content = promptContent(task, cell, fingerprint);
      const draws = new Draws(content);
      const fact = draws.pick(FACTS);
      const question = paraphrase ? `${fact.paraphrase} ${fact.paraphraseOpening}` : `${fact.question} ${fact.opening}`;
      const pieces = (units: Hay["units"]) => piecesOf(fact, question, units, unitsBefore(units, cell.depth));
      const text = (units: Hay["units"]) => pieces(units).map((piece) => piece.text).join(""); // prettier-ignore
      const frame = tokenizer.encode(text([])).length;
      const hay = proseHay(counter, cell.length - frame, draws);
      const details = { content, answer: continuation(fact), refs: [fact.answer], haystack: hay.source };
      const prompt = fitting(hay, cell.length, (units) => {
        const made: Prompt = assemble(pieces(units), tokenizer, details);
        return { made, tokens: made.ids.length };
      });
      if (prompt) return prompt;
      throw new LongctxError(
        "argument",
        `${cell.length} tokens are too few for a sentence in a novel: ${frame} go to instruction, sentence and question. Ask for at least ${frame + 64}.`,
      );
    },
  };
}

/** Instruction, novel with the sentence in it, question, each behind a newline. */
function piecesOf({ needle, answer }: Fact, question: string, units: Hay["units"], before: number): Piece[] {
  const [first, last] = [joined(units.slice(0, before)), joined(units.slice(before))];
  return [
    { text: `${INSTRUCTION}\n`, frame: true },
    { text: first, hay: true },
    { text: first === "" ? needle : ` ${needle}`, needle: { key: question, value: answer, asked: true } },
    { text: last === "" ? "" : ` ${last}`, hay: true },
    { text: `\n${question}`, frame: true },
  ];
}

/** What the needle says behind the last two words of the answer's opening: " every seventh spring.". */
export function continuation({ needle, opening }: Fact): string {
  const asked = opening.split(" ").slice(-2).join(" ");
  return needle.slice(needle.indexOf(asked) + asked.length);
}
