import { ChosenRows, intersect, type HeadOf, type Interval, type Segment } from "../method/plan.ts";

/** Tokens of the text: a range, or an ascending list. */
export type Tokens = Interval | Int32Array;

/**
 * Returns the tokens below `end` that query m sees through a segment in a query head; blocks that are still to be chosen
 * are not seen.
 */
export function visibleTokens(
  { tokens, band, queries }: Segment,
  m: number,
  end: number,
  { head, queryHeads }: HeadOf,
): Tokens {
  if ("choice" in tokens || (queries && (m < queries.from || m >= queries.to))) return { from: 0, to: 0 };
  const inBand = { from: Math.floor(m - band.to) + 1, to: Math.floor(m - band.from) + 1 }; // band.from ≤ m − n < band.to
  const seen = intersect(inBand, { from: 0, to: end });
  if (tokens instanceof ChosenRows) return listed(tokens.tokensOf(m, head, queryHeads), seen);
  return tokens instanceof Int32Array ? listed(tokens, seen) : intersect(seen, tokens);
}

/** Returns the tokens that some query of consecutive rows sees through a segment. */
export function tokensSeenByRows(segment: Segment, rows: Interval, end: number): Tokens {
  if (segment.tokens instanceof ChosenRows) return chosenByRows(segment, segment.tokens, rows, end);
  // The ranges that consecutive queries see overlap or adjoin, so that from the first to the last token all are seen.
  const all = { from: Infinity, to: -Infinity };
  for (let m = rows.from; m < rows.to; m++) {
    const seen = visibleTokens(segment, m, end, ANY_HEAD);
    if (countOf(seen) === 0) continue;
    all.from = Math.min(all.from, seen instanceof Int32Array ? seen[0] : seen.from);
    all.to = Math.max(all.to, seen instanceof Int32Array ? seen[seen.length - 1] + 1 : seen.to);
  }
  return segment.tokens instanceof Int32Array ? listed(segment.tokens, all) : all;
}

/** Returns the tokens that some of the rows have chosen in some head, ascending. */
function chosenByRows(segment: Segment, { heads }: ChosenRows, rows: Interval, end: number): Int32Array {
  const chosen = new Set<number>();
  for (let m = rows.from; m < rows.to; m++)
    for (let head = 0; head < heads; head++)
      forEachToken(visibleTokens(segment, m, end, { head, queryHeads: heads }), (token) => chosen.add(token));
  return Int32Array.from(chosen).sort();
}

/** Ranges and lists show all heads the same tokens. */
const ANY_HEAD: HeadOf = { head: 0, queryHeads: 1 };

/** Returns the number of tokens. */
export function countOf(tokens: Tokens): number {
  return tokens instanceof Int32Array ? tokens.length : Math.max(0, tokens.to - tokens.from);
}

/** Calls `act` with each token, in order. */
export function forEachToken(tokens: Tokens, act: (token: number) => void): void {
  if (tokens instanceof Int32Array) for (const token of tokens) act(token);
  else for (let token = tokens.from; token < tokens.to; token++) act(token);
}

/** Returns the tokens of an ascending list that lie in a range. */
function listed(list: Int32Array, { from, to }: Interval): Int32Array {
  const begin = firstAtLeast(list, from);
  return list.subarray(begin, Math.max(begin, firstAtLeast(list, to)));
}

/** Returns the index of the first token of an ascending list that is at least `token`. */
function firstAtLeast(list: Int32Array, token: number): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < token) low = middle + 1;
    else high = middle;
  }
  return low;
}
