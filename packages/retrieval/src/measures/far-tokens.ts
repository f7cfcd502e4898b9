import { LongctxError, type AttentionPlan, type Segment } from "@longctx/core";
import type { Meeting } from "./exact-attention.ts";
import { FETCHED, HIDDEN, isList, segmentsOf, SHOWN } from "./seen-tokens.ts";

/**
 * Returns the tokens from `from` on that query m meets at the positions that its method gives: those that it sees by the
 * segments that show them, hidden ones by the rule of those that were fetched.
 * @throws LongctxError "argument" where there are hidden tokens and not exactly one such rule
 */
export function meetingsOf(
  plan: AttentionPlan,
  kinds: Uint8Array,
  through: Int16Array,
  from: number,
  query: number,
  layer: number,
): (readonly [Meeting, number[]])[] {
  const segments = segmentsOf(plan);
  const tokens: number[][] = segments.map(() => []);
  const hidden: number[] = [];
  for (let token = from; token <= query; token++)
    (kinds[token] === HIDDEN ? hidden : tokens[through[token]]).push(token);
  const met = segments.map((segment, number) => [segment, tokens[number]] as const);
  if (hidden.length === 0 && !plan.gated) return met;
  const rules = new Map(segments.filter(isList).map((segment) => [ruleOf(segment), segment]));
  if (rules.size !== 1 || plan.gated)
    throw new LongctxError(
      "argument",
      `Layer ${layer} has ${plan.gated ? "a second softmax" : rules.size === 0 ? "hidden tokens, and fetches none of them" : `${rules.size} rules for the positions of the tokens that it fetches`}, so exact attention at the method's positions is not defined; measure at positions of the text, or other layers.`,
    );
  return [...met, [[...rules.values()][0], hidden]];
}

function ruleOf({ table, queryPosition, keyPosition }: Segment): string {
  return `${table.id}|${queryPosition.id}|${keyPosition.id}`;
}

/** Returns the `top` far tokens of the highest scores, no more than were fetched where some were; of equal scores, smaller tokens. */
export function bestFar(scores: Float64Array, kinds: Uint8Array, from: number, query: number, top: number): number[] {
  let fetched = 0;
  for (let token = from; token <= query; token++) if (kinds[token] === FETCHED) fetched++;
  const count = fetched > 0 ? Math.min(top, fetched) : top;
  // The best so far, from the highest score to the lowest.
  const best: number[] = [];
  for (let token = from; token <= query; token++) {
    if (kinds[token] === SHOWN) continue;
    const score = scores[token];
    if (best.length === count && !(score > scores[best[count - 1]])) continue;
    let place = Math.min(best.length, count - 1);
    for (; place > 0 && score > scores[best[place - 1]]; place--) best[place] = best[place - 1];
    best[place] = token;
  }
  return best;
}
