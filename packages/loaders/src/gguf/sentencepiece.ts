import { isolated } from "../tokenizer/components.ts";
import type { Component } from "../tokenizer/tokenizer-json.ts";
import type { JsonTokenizer } from "../tokenizer/tokenizer.ts";

/** SentencePiece's sign for a space. */
const SPACE = "▁";

/** A merge of two adjacent pieces; the one with the highest score is done first. */
export interface ScoredMerge {
  readonly left: string;
  readonly right: string;
  readonly score: number;
}

/**
 * A GGUF of a SentencePiece model has a score per piece and no merges: two neighbours merge when together they are a piece.
 * `pieces` holds only what may come out of a merge (no control, unknown or byte pieces).
 */
export function mergesOfPieces(pieces: ReadonlyMap<string, number>): ScoredMerge[] {
  const merges: ScoredMerge[] = [];
  for (const [piece, score] of pieces) {
    // Cut between characters, never inside a surrogate pair.
    for (let cut = lengthAt(piece, 0); cut < piece.length; cut += lengthAt(piece, cut)) {
      const left = piece.slice(0, cut);
      const right = piece.slice(cut);
      if (isPart(left, pieces) && isPart(right, pieces)) merges.push({ left, right, score });
    }
  }
  return merges.sort((a, b) => b.score - a.score);
}

/** Single characters are where merging starts; they need no piece of their own. */
function isPart(text: string, pieces: ReadonlyMap<string, number>): boolean {
  return text.length === lengthAt(text, 0) || pieces.has(text);
}

function lengthAt(text: string, index: number): number {
  return text.codePointAt(index)! > 0xffff ? 2 : 1;
}

/** Merges of one score have one rank, so that the leftmost is done first, as SentencePiece does. */
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
 * SentencePiece merges across the whole text. No piece spans the space in front of a word when none has a space
 * behind another character; then cutting there changes nothing, and words can be cached. null when that does not hold.
 */
export function cutAtSpaces(pieces: Iterable<string>): Component | null {
  for (const piece of pieces) if (/[^▁]▁/.test(piece)) return null;
  return isolated(`${SPACE}+[^${SPACE}]*|[^${SPACE}]+`);
}

/** Spaces are spelled ▁, with one more in front of a text when `prefix`. */
export function spacesSpelled(prefix: boolean): Component {
  const spell = { type: "Replace", pattern: { String: " " }, content: SPACE };
  return prefix ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: SPACE }, spell] } : spell;
}

/** Back to text: ▁ is a space, <0x0A> a byte, and the space in front of the text goes when `prefix`. */
export function spacesRead(prefix: boolean): Component {
  const decoders: Component[] = [
    { type: "Replace", pattern: { String: SPACE }, content: " " },
    { type: "ByteFallback" },
    { type: "Fuse" },
  ];
  if (prefix) decoders.push({ type: "Strip", content: " ", start: 1, stop: 0 });
  return { type: "Sequence", decoders };
}
