import type { AttentionPlan } from "../../src/method/plan.ts";
import { DenseAttention } from "../../src/reference/dense-attention.ts";

/** The heads of a layer, and the soft cap of their scores where the model has one. */
interface Heads {
  readonly queryHeads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  readonly softCap?: number;
}

/** A chunk's queries, and the keys and values that the cache holds for them. */
export interface AttentionInput {
  readonly plan: AttentionPlan;
  /** Text index of the first query. */
  readonly first: number;
  /** Not rotated, [T, H, D]. */
  readonly queries: Float64Array;
  /** Text indices of the tokens whose keys and values the cache holds. */
  readonly tokens: readonly number[];
  /** Not rotated, [n, K, D]. */
  readonly keys: Float64Array;
  readonly values: Float64Array;
}

/** Attention by its definition, one query-key pair at a time in float64: [T, H, D]. */
export function attentionOracle(
  shape: Heads,
  { plan, first, queries, tokens, keys, values }: AttentionInput,
): Float64Array {
  const { queryHeads, keyHeads, headSize, softCap } = shape;
  const heads = { queryHeads, keyHeads, headSize, attentionSoftCap: softCap };
  const dense = new DenseAttention(heads, plan, tokens, keys);
  const size = queryHeads * headSize;
  const attended = new Float64Array(queries.length);
  for (let t = 0; t * size < queries.length; t++) {
    const seen = dense.row(first + t, queries.slice(t * size, (t + 1) * size));
    for (let h = 0; h < queryHeads; h++) {
      const keyHead = Math.floor((h * keyHeads) / queryHeads);
      seen[h].tokens.forEach((n, j) => {
        const weight = seen[h].probabilities[j];
        const value = (n * keyHeads + keyHead) * headSize;
        for (let d = 0; d < headSize; d++) attended[t * size + h * headSize + d] += weight * values[value + d];
      });
    }
  }
  return attended;
}
