import type { ModelConfig } from "../model/config.ts";
import type { LayerView } from "../method/method.ts";
import { sees, type AttentionPlan } from "../method/plan.ts";
import { DenseAttention } from "../reference/dense-attention.ts";

/**
 * What a layer attends to under a plan: probabilities [H, T, n] of the chunk's queries over tokens [0, n) of the text,
 * n = first + count. Tokens that are not seen are 0; a row that sees nothing is all zeros. Dense, so only for looking.
 * @throws LongctxError when the plan shows a token that the cache no longer holds
 */
export function attentionWeights(plan: AttentionPlan, view: LayerView, config: ModelConfig): Float32Array {
  const { queryHeads, keyHeads, headSize } = config;
  const { first, count } = view;
  const length = first + count;
  const tokens: number[] = [];
  for (let token = 0; token < length; token++) {
    if (isSeen(plan, token, first, length)) tokens.push(token);
  }
  const keys = new Float64Array(tokens.length * keyHeads * headSize);
  for (let i = 0; i < tokens.length;) {
    let end = i + 1; // the tokens of one run are read at once
    while (end < tokens.length && tokens[end] === tokens[end - 1] + 1) end++;
    keys.set(view.keys({ from: tokens[i], to: tokens[end - 1] + 1 }), i * keyHeads * headSize);
    i = end;
  }
  const attention = new DenseAttention(config, plan, tokens, keys);
  const size = queryHeads * headSize;
  const queries = Float64Array.from(view.queries());
  const weights = new Float32Array(queryHeads * count * length);
  for (let t = 0; t < count; t++) {
    const seen = attention.row(first + t, queries.subarray(t * size, (t + 1) * size));
    for (let h = 0; h < queryHeads; h++) {
      const row = (h * count + t) * length;
      seen.tokens.forEach((n, j) => (weights[row + tokens[n]] = seen.probabilities[h * seen.tokens.length + j]));
    }
  }
  return weights;
}

function isSeen(plan: AttentionPlan, token: number, first: number, end: number): boolean {
  for (let query = first; query < end; query++) {
    if (plan.segments.some((segment) => sees(segment, query, token))) return true;
  }
  return false;
}
