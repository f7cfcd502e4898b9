import { attentionScaleOf, type ModelConfig } from "../model/config.ts";
import { softCapped } from "./dense.ts";
import { sees, type AttentionPlan, type FrequencyTable } from "../method/plan.ts";

/** What one query sees: `tokens` are indices into the tokens at hand, `probabilities` is [H, tokens]; a head sums to 1. */
export interface AttentionRow {
  readonly tokens: readonly number[];
  readonly probabilities: Float64Array;
}

/** What attention has to know of a model. */
export type HeadShape = Pick<
  ModelConfig,
  "queryHeads" | "keyHeads" | "headSize" | "attentionSoftCap" | "attentionScale"
>;

/** Attention as a plan defines it, pair by pair: no tiles, no bands, nothing skipped. One layer, one chunk. */
export class DenseAttention {
  readonly #config: HeadShape;
  readonly #plan: AttentionPlan;
  readonly #tokens: readonly number[];
  readonly #keys: Float64Array;
  /** [n, K, D] for each table and key rule that some segment has. */
  readonly #rotated = new Map<string, Float64Array>();

  /** `keys` are those of `tokens`, not rotated, [n, K, D]. */
  constructor(config: HeadShape, plan: AttentionPlan, tokens: readonly number[], keys: Float64Array) {
    this.#config = config;
    this.#plan = plan;
    this.#tokens = tokens;
    this.#keys = keys;
  }

  /** The query at text index m, [H, D], not rotated. A query that sees nothing has an empty row. */
  row(m: number, query: Float64Array): AttentionRow {
    const { queryHeads, keyHeads, headSize, attentionSoftCap } = this.#config;
    const seen: number[] = [];
    const through: number[] = [];
    for (let n = 0; n < this.#tokens.length; n++) {
      const segment = this.#segmentOf(m, this.#tokens[n]);
      if (segment < 0) continue;
      seen.push(n);
      through.push(segment);
    }
    const queries: Float64Array[] = [];
    const keys: Float64Array[] = [];
    for (const s of new Set(through)) {
      const { table, queryPosition } = this.#plan.segments[s];
      queries[s] = query.slice();
      rotate(queries[s], 0, queryHeads, headSize, table, queryPosition.at(m));
      keys[s] = this.#keysOf(s);
    }
    const scale = (this.#plan.temperature?.at(m) ?? 1) * attentionScaleOf(this.#config);
    const probabilities = new Float64Array(queryHeads * seen.length);
    for (let h = 0; h < queryHeads; h++) {
      const keyHead = Math.floor((h * keyHeads) / queryHeads);
      const scores = probabilities.subarray(h * seen.length, (h + 1) * seen.length);
      for (let j = 0; j < seen.length; j++) {
        const q = queries[through[j]];
        const k = keys[through[j]];
        const key = (seen[j] * keyHeads + keyHead) * headSize;
        let score = 0;
        for (let i = 0; i < headSize; i++) score += q[h * headSize + i] * k[key + i];
        scores[j] = softCapped(score * scale, attentionSoftCap);
      }
      softmax(scores);
    }
    return { tokens: seen, probabilities };
  }

  #segmentOf(m: number, token: number): number {
    const { segments } = this.#plan;
    let found = -1;
    for (let s = 0; s < segments.length; s++) {
      if (!sees(segments[s], m, token)) continue;
      // The segments share one softmax, so a token met twice would count twice: a defect of the method that made the plan.
      if (found >= 0)
        throw new Error(
          `The plan's segments ${found} and ${s} both show token ${token} to query ${m}; segments have to be disjoint.`,
        );
      found = s;
    }
    return found;
  }

  #keysOf(s: number): Float64Array {
    const { table, keyPosition } = this.#plan.segments[s];
    const id = `${table.id}|${keyPosition.id}`;
    let keys = this.#rotated.get(id);
    if (!keys) {
      const { keyHeads, headSize } = this.#config;
      keys = this.#keys.slice();
      for (let n = 0; n < this.#tokens.length; n++)
        rotate(keys, n * keyHeads * headSize, keyHeads, headSize, table, keyPosition.at(this.#tokens[n]));
      this.#rotated.set(id, keys);
    }
    return keys;
  }
}

/** Turns the pairs (i, i + d/2) of each head by position · θ_i, in place; channels beyond the rotary size stay as they are. */
export function rotate(
  values: Float64Array,
  from: number,
  heads: number,
  headSize: number,
  { inverse, amplitude }: FrequencyTable,
  position: number,
): void {
  const half = inverse.length;
  for (let i = 0; i < half; i++) {
    const cos = Math.cos(position * inverse[i]) * amplitude;
    const sin = Math.sin(position * inverse[i]) * amplitude;
    for (let h = 0; h < heads; h++) {
      const a = from + h * headSize + i;
      const b = a + half;
      const [x, y] = [values[a], values[b]];
      values[a] = x * cos - y * sin;
      values[b] = y * cos + x * sin;
    }
  }
}

function softmax(scores: Float64Array): void {
  let largest = -Infinity;
  for (let j = 0; j < scores.length; j++) largest = Math.max(largest, scores[j]);
  let sum = 0;
  for (let j = 0; j < scores.length; j++) sum += scores[j] = Math.exp(scores[j] - largest);
  for (let j = 0; j < scores.length; j++) scores[j] /= sum;
}
