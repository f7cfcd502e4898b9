import type { Tokenizer } from "@longctx/core";
import type { Content } from "./hash.ts";

/** The place of a prompt in a benchmark's grid. */
export interface Cell {
  /** Tokens the prompt may have, its question included, the answer not. */
  readonly length: number;
  /** Where the asked needle stands, % of the haystack: 0 at its beginning, 100 at its end. */
  readonly depth: number;
  /** Number of the repetition, from 0; every one has another haystack and other needles. */
  readonly trial: number;
  readonly seed: number;
}

export interface PlacedNeedle {
  readonly key: string;
  readonly value: string;
  /** The needle's tokens in the prompt: [start, end). */
  readonly start: number;
  readonly end: number;
  /** % of the haystack's tokens that stand before it. */
  readonly depth: number;
}

export interface Prompt {
  /** SHA-256 of everything the prompt follows from: task, parameters, cell, tokenizer. The same for all methods. */
  readonly id: string;
  readonly text: string;
  readonly ids: readonly number[];
  /** SHA-256 of the text. */
  readonly sha256: string;
  /**
   * The tokens of the long text, needles included: [start, end). Before them are the tokenizer's own token and the
   * instruction, behind them the question. A reader goes through these and keeps the rest around what it reads.
   */
  readonly passage: { readonly start: number; readonly end: number };
  /** The index of the question's first token; a token that joins both belongs to the text before the question. */
  readonly questionStart: number;
  /** The asked one first. */
  readonly needles: readonly PlacedNeedle[];
  /** Texts that count as the answer. */
  readonly refs: readonly string[];
  /** The first token of the answer as the tokenizer writes it behind the prompt. */
  readonly firstAnswerToken: number;
  /** Where the haystack comes from, for the record. */
  readonly haystack: string;
}

/** A task with its parameters. */
export interface Task {
  readonly name: string;
  /** Raised with every change of prompts or scores; results of two versions do not mix. */
  readonly version: number;
  readonly params: Readonly<Record<string, Content>>;
  readonly scorer: string;
  /** 1 for a right answer, 0 for a wrong one. */
  score(answer: string, refs: readonly string[]): number;
  /** The task for one tokenizer. */
  bind(tokenizer: Tokenizer): BoundTask;
}

export interface BoundTask {
  readonly task: Task;
  /** See `tokenizerFingerprint`. */
  readonly tokenizer: string;
  /** Tokens a model may answer with. */
  readonly maxNew: number;
  /** @throws LongctxError "argument" when the length is too short for the task or too long for its texts */
  prompt(cell: Cell): Prompt;
}
