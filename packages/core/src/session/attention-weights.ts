import type { LayerView } from "../method/method.ts";
import { ChosenRows, sees, type AttentionPlan, type FrequencyTable, type Segment } from "../method/plan.ts";
import { attentionScaleOf, type ModelConfig } from "../model/config.ts";

/**
 * Computes a layer's attention probabilities [H, T, n] under a plan, of the chunk's queries over tokens [0, n) of the
 * text with n = first + count. Hidden tokens have probability 0, and a query that sees nothing has a row of zeros; a
 * compressive memory is left out. Computed pair by pair in float64, for inspection rather than speed.
 * @throws LongctxError when the plan shows a token that the state no longer holds
 */
export function attentionWeights(plan: AttentionPlan, view: LayerView, config: ModelConfig): Float32Array {
  const { queryHeads, keyHeads, headSize } = config;
  const { first, count } = view;
  const length = first + count;
  const tokens: number[] = [];
  for (let token = 0; token < length; token++) if (isSeen(plan, token, first, length)) tokens.push(token);
  const turnedKeys = turnedOnce(keysOf(tokens, view, keyHeads * headSize), tokens, headSize);
  const queries = Float64Array.from(view.queries());
  const size = queryHeads * headSize;
  const alike = plan.segments.every(({ tokens: of }) => !(of instanceof ChosenRows));
  const weights = new Float32Array(queryHeads * count * length);
  for (let t = 0; t < count; t++) {
    const m = first + t;
    const raw = queries.subarray(t * size, (t + 1) * size);
    const seenBy = (head: number) =>
      plan.segments
        .map((segment, number) => ({
          segment,
          number,
          rows: [...tokens.keys()].filter((row) => sees(segment, m, tokens[row], { head, queryHeads })),
        }))
        .filter(({ rows }) => rows.length > 0)
        .map(({ segment, number, rows }) => ({
          number,
          rows,
          keys: turnedKeys(segment),
          query: turned(raw, headSize, segment.table, () => segment.queryPosition.at(m)),
        }));
    const seenByAll = alike ? seenBy(0) : null;
    const scale = (plan.temperature?.at(m) ?? 1) * attentionScaleOf(config);
    for (let h = 0; h < queryHeads; h++) {
      const keyHead = Math.floor((h * keyHeads) / queryHeads);
      const seen = seenByAll ?? seenBy(h);
      checkDisjoint(seen, tokens, m);
      const row = weights.subarray((h * count + t) * length, (h * count + t + 1) * length);
      const scores = seen.flatMap(({ rows, keys, query }) =>
        rows.map((at) => {
          let score = 0;
          const key = (at * keyHeads + keyHead) * headSize;
          for (let i = 0; i < headSize; i++) score += query[h * headSize + i] * keys[key + i];
          return { token: tokens[at], score: capped(score * scale, config.attentionSoftCap) };
        }),
      );
      const largest = scores.reduce((most, { score }) => Math.max(most, score), -Infinity);
      const total = scores.reduce((sum, { score }) => sum + Math.exp(score - largest), 0);
      for (const { token, score } of scores) row[token] = Math.exp(score - largest) / total;
    }
  }
  return weights;
}

/**
 * Throws if two segments of a plan show a query the same token, which one softmax would then count twice: a defect of
 * the method.
 */
function checkDisjoint(
  seen: readonly { readonly number: number; readonly rows: readonly number[] }[],
  tokens: readonly number[],
  query: number,
): void {
  const metBy = new Map<number, number>();
  for (const { number, rows } of seen)
    for (const row of rows) {
      const other = metBy.get(row);
      if (other !== undefined)
        throw new Error(
          `The plan's segments ${other} and ${number} both show token ${tokens[row]} to query ${query}; segments have to be disjoint.`,
        );
      metBy.set(row, number);
    }
}

function isSeen(plan: AttentionPlan, token: number, first: number, end: number): boolean {
  for (let query = first; query < end; query++) {
    if (plan.segments.some((segment) => sees(segment, query, token))) return true;
  }
  return false;
}

/** Reads the keys [n, K, D] of ascending tokens, with one read for each run of consecutive tokens. */
function keysOf(tokens: readonly number[], view: LayerView, rowSize: number): Float64Array {
  const keys = new Float64Array(tokens.length * rowSize);
  for (let i = 0; i < tokens.length;) {
    let end = i + 1;
    while (end < tokens.length && tokens[end] === tokens[end - 1] + 1) end++;
    keys.set(view.keys({ from: tokens[i], to: tokens[end - 1] + 1 }), i * rowSize);
    i = end;
  }
  return keys;
}

/**
 * Returns a function that rotates all keys by a segment's frequency table and key positions, once for each such pair.
 */
function turnedOnce(
  keys: Float64Array,
  tokens: readonly number[],
  headSize: number,
): (segment: Segment) => Float64Array {
  const made = new Map<string, Float64Array>();
  const rowSize = keys.length / Math.max(1, tokens.length);
  return ({ table, keyPosition }) => {
    const id = `${table.id}|${keyPosition.id}`;
    const known =
      made.get(id) ?? turned(keys, headSize, table, (at) => keyPosition.at(tokens[Math.floor(at / rowSize)]));
    made.set(id, known);
    return known;
  };
}

/**
 * Rotates the rotary pairs (i, i + d/2) of heads [n, D] by position · θ_i; `position` maps the offset of a head in the
 * array to the head's position.
 */
function turned(
  heads: Float64Array,
  headSize: number,
  { inverse, amplitude }: FrequencyTable,
  position: (at: number) => number,
): Float64Array {
  const output = heads.slice();
  const half = inverse.length;
  for (let at = 0; at < heads.length; at += headSize) {
    const p = position(at);
    for (let i = 0; i < half; i++) {
      const [cos, sin] = [Math.cos(p * inverse[i]) * amplitude, Math.sin(p * inverse[i]) * amplitude];
      output[at + i] = heads[at + i] * cos - heads[at + half + i] * sin;
      output[at + half + i] = heads[at + half + i] * cos + heads[at + i] * sin;
    }
  }
  return output;
}

function capped(score: number, cap: number | undefined): number {
  return cap === undefined ? score : cap * Math.tanh(score / cap);
}
