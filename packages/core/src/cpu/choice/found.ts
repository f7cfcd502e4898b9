import { ChosenRows, type AttentionPlan, type Segment } from "../../method/plan.ts";

/** A plan in two: what queries share, in lanes, and what each query and head has found for itself, in lists. */
export interface PlanApart {
  readonly shared: AttentionPlan;
  readonly found: readonly Segment[];
}

/** Takes the lists of single queries and heads, and the branch under a gate, out of a plan; others stay the same object. */
export function apart(plan: AttentionPlan): PlanApart {
  const found = plan.segments.filter(({ tokens }) => tokens instanceof ChosenRows);
  if (found.length === 0 && !plan.gated) return { shared: plan, found };
  const segments = plan.segments.filter(({ tokens }) => !(tokens instanceof ChosenRows));
  return { shared: { ...plan, segments, gated: undefined }, found };
}

/** Returns the tokens that query m sees through a segment in query head `head` of `queryHeads`, ascending. */
export function seenTokens(segment: Segment, query: number, head: number, queryHeads: number): Int32Array {
  const { tokens, band, queries } = segment;
  if (queries && (query < queries.from || query >= queries.to)) return NOTHING;
  if ("choice" in tokens) throw new Error("A choice is no list of tokens yet.");
  // Distances from band.from on and below band.to.
  const [least, end] = [query - band.to + 1, query - band.from + 1];
  if (!(tokens instanceof ChosenRows) && !(tokens instanceof Int32Array)) {
    const from = Math.max(tokens.from, least, 0);
    return Int32Array.from({ length: Math.max(0, Math.min(tokens.to, end) - from) }, (_, i) => from + i);
  }
  const list = tokens instanceof Int32Array ? tokens : tokens.tokensOf(query, head, queryHeads);
  if (list.length === 0 || (list[0] >= least && list[list.length - 1] < end)) return list;
  return list.filter((token) => token >= least && token < end);
}

const NOTHING = new Int32Array(0);

/** Mixes what a second softmax has found into `attended`, in place: gate · found + (1 − gate) · attended; all [.., D]. */
export function mixFound(attended: Float32Array, found: Float32Array, gate: number): void {
  for (let i = 0; i < attended.length; i++) attended[i] = gate * found[i] + (1 - gate) * attended[i];
}

/** Returns the gates of all heads, after the sigmoid. */
export function gatesOf(logits: ArrayLike<number>): number[] {
  return Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
}
