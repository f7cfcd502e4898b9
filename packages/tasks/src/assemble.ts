import { LongctxError, type Tokenizer } from "@longctx/core";
import { contentHash, sha256, type Content } from "./hash.ts";
import type { Cell, PlacedNeedle, Prompt, Task } from "./task.ts";

/** A stretch of the prompt's text. */
export interface Piece {
  readonly text: string;
  /** A needle, found again among the tokens. */
  readonly needle?: { readonly key: string; readonly value: string; readonly asked: boolean };
  /** Part of the text in which the needles are hidden. */
  readonly hay?: boolean;
  /** The instruction before the text, or the question behind it. */
  readonly frame?: boolean;
}

export interface PromptDetails {
  readonly content: Content;
  /** What the model has to write behind the prompt. */
  readonly answer: string;
  readonly refs: readonly string[];
  readonly haystack: string;
}

/** What a prompt follows from, and nothing else: its id, and what its random choices are drawn from. */
export function promptContent(task: Task, cell: Cell, tokenizer: string): Content {
  const { length, depth, trial, seed } = cell;
  return { task: task.name, version: task.version, params: task.params, length, depth, trial, seed, tokenizer };
}

/**
 * Pieces as a prompt, the last of them its question; some are not of the frame. The text is tokenised as a whole, as a user's would be; a needle's span is the difference of two
 * counts and is checked by decoding it, because a tokenizer may merge across a boundary.
 */
export function assemble(
  pieces: readonly Piece[],
  tokenizer: Tokenizer,
  { content, answer, refs, haystack }: PromptDetails,
): Prompt {
  const text = pieces.map((piece) => piece.text).join("");
  const ids = tokenizer.encode(text);
  const spans = spansOf(pieces, tokenizer);
  const hay = spans.filter(({ piece }) => piece.hay);
  const inside = spans.filter(({ piece }) => !piece.frame);
  const share = (before: number): number =>
    (100 * tokensOf(hay.filter(({ end }) => end <= before))) / Math.max(1, tokensOf(hay));
  const needles: { asked: boolean; needle: PlacedNeedle }[] = [];
  for (const { piece, start, end } of spans) {
    if (!piece.needle) continue;
    const found = tokenizer.decode(ids.slice(start, end)).trim();
    // Decoders may clean up the space before a full stop, so white space does not count.
    if (bare(found) !== bare(piece.text)) {
      throw new LongctxError(
        "argument",
        `The tokenizer does not keep "${piece.text.trim()}" apart from the text around it (its tokens read "${found}"); use another task with this model.`,
      );
    }
    const { key, value, asked } = piece.needle;
    needles.push({ asked, needle: { key, value, start, end, depth: share(start) } });
  }
  return {
    id: contentHash(content),
    text,
    ids,
    sha256: sha256(text),
    passage: { start: inside[0].start, end: inside[inside.length - 1].end },
    questionStart: Math.min(spans.at(-1)!.start, ids.length - 1),
    needles: needles.sort((a, b) => Number(b.asked) - Number(a.asked)).map(({ needle }) => needle),
    refs,
    firstAnswerToken: tokenizer.encode(text + answer)[ids.length],
    haystack,
  };
}

interface Span {
  readonly piece: Piece;
  readonly start: number;
  readonly end: number;
}

function spansOf(pieces: readonly Piece[], tokenizer: Tokenizer): Span[] {
  const spans: Span[] = [];
  let text = "";
  let end = tokenizer.encode("").length;
  for (const piece of pieces) {
    text += piece.text;
    const start = end;
    end = piece.text === "" ? start : tokenizer.encode(text).length;
    spans.push({ piece, start, end });
  }
  return spans;
}

function bare(text: string): string {
  return text.replaceAll(/\s/g, "");
}

function tokensOf(spans: readonly Span[]): number {
  return spans.reduce((sum, { start, end }) => sum + end - start, 0);
}

/** What stands before every stretch that is counted: some tokenizers treat the beginning of a text differently. */
const ANCHOR = ".";

/** Tokens of a stretch that follows a sentence; remembered, because the same sentences come back in every prompt. */
export class TokenCounter {
  readonly #tokenizer: Tokenizer;
  readonly #anchor: number;
  readonly #known = new Map<string, number>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
    this.#anchor = tokenizer.encode(ANCHOR, { special: false }).length;
  }

  count(text: string): number {
    let tokens = this.#known.get(text);
    if (tokens === undefined) {
      tokens = this.#tokenizer.encode(ANCHOR + text, { special: false }).length - this.#anchor;
      this.#known.set(text, tokens);
    }
    return tokens;
  }
}
