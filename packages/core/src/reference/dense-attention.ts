import { attentionScaleOf, type ModelConfig } from "../model/config.ts";
import { cosine, dot, softCapped } from "./dense.ts";
import { ChosenRows, sees, type AttentionPlan, type FrequencyTable } from "../method/plan.ts";

/** What one query head sees: `tokens` are indices into the tokens at hand, and their probabilities sum to 1. */
export interface SeenByHead {
  readonly tokens: readonly number[];
  readonly probabilities: Float64Array;
}

/** What attention has to know of a model. */
export type HeadShape = Pick<
  ModelConfig,
  "queryHeads" | "keyHeads" | "headSize" | "attentionSoftCap" | "attentionScale"
>;

/** The segments of one softmax, with what their scores are multiplied by. */
export interface SoftmaxSegments extends Pick<AttentionPlan, "segments" | "temperature"> {
  /** Given where logits are cosines, one factor for each query head. */
  readonly scales?: ArrayLike<number>;
}

/** Attention as a plan defines it, pair by pair: no tiles, no bands, nothing skipped. One softmax, one layer, one chunk. */
export class DenseAttention {
  readonly #config: HeadShape;
  readonly #plan: SoftmaxSegments;
  readonly #tokens: readonly number[];
  readonly #keys: Float64Array;
  /** [n, K, D] for each table and key rule that some segment has. */
  readonly #rotated = new Map<string, Float64Array>();

  /** `keys` are those of `tokens`, not rotated, [n, K, D]. */
  constructor(config: HeadShape, plan: SoftmaxSegments, tokens: readonly number[], keys: Float64Array) {
    this.#config = config;
    this.#plan = plan;
    this.#tokens = tokens;
    this.#keys = keys;
  }

  /** The query at text index m, [H, D], not rotated, seen head by head. A query head that sees nothing has empty lists. */
  row(m: number, query: Float64Array): SeenByHead[] {
    const { queryHeads, keyHeads, headSize, attentionSoftCap } = this.#config;
    const { segments, temperature, scales } = this.#plan;
    const queries: Float64Array[] = [];
    const rotatedQuery = (s: number): Float64Array => {
      if (!queries[s]) {
        queries[s] = query.slice();
        rotate(queries[s], 0, queryHeads, headSize, segments[s].table, segments[s].queryPosition.at(m));
      }
      return queries[s];
    };
    const scale = (temperature?.at(m) ?? 1) * attentionScaleOf(this.#config);
    const alike = segments.every(({ tokens }) => !(tokens instanceof ChosenRows));
    const seenByAll = alike ? this.#seen(m, 0) : null;
    return Array.from({ length: queryHeads }, (_, h) => {
      const keyHead = Math.floor((h * keyHeads) / queryHeads);
      const seen = seenByAll ?? this.#seen(m, h);
      const probabilities = Float64Array.from(seen, ({ index, segment }) => {
        const q = rotatedQuery(segment).subarray(h * headSize, (h + 1) * headSize);
        const at = (index * keyHeads + keyHead) * headSize;
        const k = this.#keysOf(segment).subarray(at, at + headSize);
        return scales ? scales[h] * cosine(q, k) : softCapped(dot(q, k) * scale, attentionSoftCap);
      });
      softmax(probabilities);
      return { tokens: seen.map(({ index }) => index), probabilities };
    });
  }

  /** The tokens that a query head sees, each with the segment that shows it. */
  #seen(m: number, head: number): { readonly index: number; readonly segment: number }[] {
    const seen: { index: number; segment: number }[] = [];
    for (let index = 0; index < this.#tokens.length; index++) {
      const segment = this.#segmentOf(m, this.#tokens[index], head);
      if (segment >= 0) seen.push({ index, segment });
    }
    return seen;
  }

  #segmentOf(m: number, token: number, head: number): number {
    const { segments } = this.#plan;
    const { queryHeads } = this.#config;
    let found = -1;
    for (let s = 0; s < segments.length; s++) {
      if (!sees(segments[s], m, token, { head, queryHeads })) continue;
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
