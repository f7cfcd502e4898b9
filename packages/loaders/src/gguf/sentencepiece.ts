import { isolated } from "../tokenizer/components.ts";
import type { Component } from "../tokenizer/tokenizer-json.ts";
import type { JsonTokenizer } from "../tokenizer/tokenizer.ts";

/** The character that SentencePiece writes for a space. */
const SPACE = "▁";

/**
 * A merge of two adjacent pieces; of all merges possible in a text, SentencePiece does the one with the highest score
 * first.
 */
export interface ScoredMerge {
  readonly left: string;
  readonly right: string;
  readonly score: number;
}

/**
 * The merges of a SentencePiece model, whose GGUF file holds a score for each piece and no merges: two neighbours merge
 * when their concatenation is a piece. `pieces` maps normal pieces to scores, without control, unknown and byte pieces.
 */
export function mergesOfPieces(pieces: ReadonlyMap<string, number>): ScoredMerge[] {
  const merges: ScoredMerge[] = [];
  for (const [piece, score] of pieces) {
    // A cut lies between characters, never inside a surrogate pair.
    for (let cut = lengthAt(piece, 0); cut < piece.length; cut += lengthAt(piece, cut)) {
      const left = piece.slice(0, cut);
      const right = piece.slice(cut);
      if (isPart(left, pieces) && isPart(right, pieces)) merges.push({ left, right, score });
    }
  }
  return merges.sort((a, b) => b.score - a.score);
}

/** Whether a text can be one side of a merge: a piece, or a single character, which need not be a piece. */
function isPart(text: string, pieces: ReadonlyMap<string, number>): boolean {
  return text.length === lengthAt(text, 0) || pieces.has(text);
}

function lengthAt(text: string, index: number): number {
  return text.codePointAt(index)! > 0xffff ? 2 : 1;
}

/**
 * Gives merges of equal score one rank in the library's table, so that the leftmost is done first, as SentencePiece
 * does.
 */
export function rankByScore(tokenizer: JsonTokenizer, merges: readonly ScoredMerge[]): void {
  const ranks = tokenizer.library.model.bpe_ranks;
  let rank = -1;
  let previous = NaN;
  for (const { left, right, score } of merges) {
    if (score !== previous) rank += 1;
    previous = score;
    ranks?.set(JSON.stringify([left, right]), rank);
  }
}

/**
 * A pre-tokenizer that cuts a text before its spaces, so that the library can cache words. SentencePiece merges across
 * the whole text, but cutting gives the same tokens when no piece has a space after another character; else null.
 */
export function cutAtSpaces(pieces: Iterable<string>): Component | null {
  for (const piece of pieces) if (/[^▁]▁/.test(piece)) return null;
  return isolated(`${SPACE}+[^${SPACE}]*|[^${SPACE}]+`);
}

/** The normalizer that writes ▁ for each space, and one more in front of the text when `prefix` is true. */
export function spacesSpelled(prefix: boolean): Component {
  const spell = { type: "Replace", pattern: { String: " " }, content: SPACE };
  return prefix ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: SPACE }, spell] } : spell;
}

/** The decoder: ▁ becomes a space, <0x0A> a byte, and the first space is dropped when `prefix` is true. */
export function spacesRead(prefix: boolean): Component {
  const decoders: Component[] = [
    { type: "Replace", pattern: { String: SPACE }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  if (prefix) decoders.push({ type: "Strip", content: " ", start: 1, stop: 0 });
  return { type: "Sequence", decoders };
}
