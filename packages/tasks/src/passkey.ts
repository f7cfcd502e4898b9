import { LongctxError, listed, type Tokenizer } from "@longctx/core";
import { assemble, promptContent, TokenCounter, type Piece } from "./assemble.ts";
import { Draws } from "./draws.ts";
import { tokenizerFingerprint } from "./fingerprint.ts";
import {
  fillerHay,
  fitting,
  HAYSTACKS,
  joined,
  proseHay,
  unitsBefore,
  type Hay,
  type HaystackName,
} from "./haystack.ts";
import { firstInteger } from "./scoring.ts";
import type { BoundTask, Prompt, Task } from "./task.ts";

export const INSTRUCTION =
  "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.";
export const QUESTION = "What is the pass key? The pass key is";
const MAX_NEW = 8;

export interface PasskeyOptions {
  /** `filler` (the default) repeats the published unit; `novel` takes sentences of Jane Austen. */
  readonly haystack?: HaystackName;
}

/**
 * Passkey retrieval: Mohtashami and Jaggi, "Landmark Attention", 2023 (arXiv:2305.16300), appendix; the template is
 * that of Landmark, YaRN and LongLoRA, byte for byte. The key has five digits, so all prompts are equally hard, and the
 * haystack consists of whole units. No chat template. @throws LongctxError "argument"
 */
export function passkeyTask({ haystack = "filler" }: PasskeyOptions = {}): Task {
  if (!HAYSTACKS.includes(haystack))
    throw new LongctxError("argument", `There is no haystack "${String(haystack)}"; there is ${listed(HAYSTACKS)}.`);
  const task: Task = {
    name: "passkey",
    version: 1,
    params: { haystack },
    scorer: "first-integer",
    score: firstInteger,
    bind: (tokenizer) => bindPasskey(task, haystack, tokenizer),
  };
  return task;
}

function bindPasskey(task: Task, haystack: HaystackName, tokenizer: Tokenizer): BoundTask {
  const counter = new TokenCounter(tokenizer);
  const fingerprint = tokenizerFingerprint(tokenizer);
  return {
    task,
    tokenizer: fingerprint,
    maxNew: MAX_NEW,
    prompt: (cell) => {
      const content = promptContent(task, cell, fingerprint);
      const draws = new Draws(content);
      const key = String(draws.integer(10_000, 50_000));
      const frame = tokenizer.encode(
        piecesOf(key, [], 0)
          .map((piece) => piece.text)
          .join(""),
      ).length;
      const budget = cell.length - frame;
      const hay = haystack === "filler" ? fillerHay(counter, budget) : proseHay(counter, budget, draws);
      const details = { content, answer: ` ${key}`, refs: [key], haystack: hay.source };
      const prompt = fitting(hay, cell.length, (units) => {
        const made: Prompt = assemble(piecesOf(key, units, unitsBefore(units, cell.depth)), tokenizer, details);
        return { made, tokens: made.ids.length };
      });
      if (prompt) return prompt;
      throw new LongctxError(
        "argument",
        `${cell.length} tokens are too few for a passkey prompt: ${frame} go to instruction, key and question. Ask for at least ${frame + 32}.`,
      );
    },
  };
}

/** The published five lines; the halves of the haystack are empty lines when nothing is in them. */
function piecesOf(key: string, units: Hay["units"], before: number): Piece[] {
  return [
    { text: `${INSTRUCTION}\n`, frame: true },
    { text: joined(units.slice(0, before)), hay: true },
    { text: "\n" },
    {
      text: passkeySentences(key),
      needle: { key: "pass key", value: key, asked: true },
    },
    { text: "\n" },
    { text: joined(units.slice(before)), hay: true },
    { text: `\n${QUESTION}`, frame: true },
  ];
}

/** What is hidden. */
export function passkeySentences(key: string): string {
  return `The pass key is ${key}. Remember it. ${key} is the pass key.`;
}
