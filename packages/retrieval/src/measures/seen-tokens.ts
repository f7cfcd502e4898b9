import { ChosenRows, type AttentionPlan, type HeadOf, type Segment } from "@longctx/core";

/** How a query sees a token: not at all, in a range (sinks, last tokens), or because it was fetched, by a list. */
export const HIDDEN = 0;
export const SHOWN = 1;
export const FETCHED = 2;

/**
 * Writes for tokens [0, query] how query m sees them in a query head of a layer under a plan without choices, its gated
 * branch included, into `kinds` [n], and through which segment into `through` [n] (unless the token is hidden).
 */
export function seenTokens(
  plan: AttentionPlan,
  query: number,
  { head, queryHeads }: HeadOf,
  kinds: Uint8Array,
  through: Int16Array,
): void {
  kinds.fill(HIDDEN, 0, query + 1);
  for (const [number, { tokens, band, queries }] of segmentsOf(plan).entries()) {
    if (queries && (query < queries.from || query >= queries.to)) continue;
    if ("choice" in tokens) continue;
    // band.from ≤ m − n < band.to
    const [from, to] = [Math.max(0, query - band.to + 1), Math.min(query, query - band.from) + 1];
    if ("from" in tokens) {
      for (let token = Math.max(from, tokens.from); token < Math.min(to, tokens.to); token++) {
        kinds[token] = SHOWN;
        through[token] = number;
      }
      continue;
    }
    for (const token of tokens instanceof ChosenRows ? tokens.tokensOf(query, head, queryHeads) : tokens) {
      if (token < from || token >= to) continue;
      kinds[token] = FETCHED;
      through[token] = number;
    }
  }
}

/** Returns the segments of a plan and of its gated branch, in the order in which `seenTokens` numbers them. */
export function segmentsOf({ segments, gated }: AttentionPlan): readonly Segment[] {
  return gated ? [...segments, ...gated.segments] : segments;
}

/** Returns whether a segment shows tokens by lists: those that were chosen, or that a control lists. */
export function isList({ tokens }: Segment): boolean {
  return tokens instanceof Int32Array || tokens instanceof ChosenRows;
}
