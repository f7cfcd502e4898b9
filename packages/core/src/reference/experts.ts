import type { ExpertsConfig } from "../model/config.ts";

export interface Route {
  readonly expert: number;
  readonly weight: number;
}

/** The likeliest experts of one row of router logits [E], likeliest first; of equal ones those with the smaller numbers. */
export function route(
  logits: ArrayLike<number>,
  { perToken, renormalise }: Pick<ExpertsConfig, "perToken" | "renormalise">,
): Route[] {
  const largest = Math.max(...Array.from(logits));
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const order = powers.map((_, expert) => expert).sort((a, b) => logits[b] - logits[a] || a - b);
  const chosen = order.slice(0, perToken);
  const total = (renormalise ? chosen : order).reduce((sum, expert) => sum + powers[expert], 0);
  return chosen.map((expert) => ({ expert, weight: powers[expert] / total }));
}
