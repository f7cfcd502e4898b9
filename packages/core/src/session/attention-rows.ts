import type { LayerView } from "../method/method.ts";
import { ChosenRows, type AttentionPlan, type Interval } from "../method/plan.ts";
import { attentionScaleOf, type ModelConfig } from "../model/config.ts";
import { angles, anglesFrom, rotation, turnRows, type Angles } from "../positions/rotation.ts";
import { KeysByRotation, type RotatedKeys } from "./rotated-keys.ts";
import { countOf, forEachToken, tokensSeenByRows, visibleTokens, type Tokens } from "./visible-tokens.ts";

/** Some queries and query heads of a layer. */
export interface RowsAndHeads {
  /** The text indices of the queries, all of which belong to the view's chunk. */
  readonly rows: Interval;
  /** The query heads, in the order of the result. */
  readonly heads: readonly number[];
}

/**
 * Computes attention probabilities [heads, rows, n] of some queries and heads of a layer under a plan, over tokens [0, n)
 * of the text with n = first + count of the view. The probabilities are those of `attentionWeights`, which states the
 * definition, but each key is rotated once for each rotation, and only for the key heads that are needed.
 * @throws LongctxError when the plan shows a token that the state no longer holds
 */
export function attentionRows(
  plan: AttentionPlan,
  view: LayerView,
  config: ModelConfig,
  { rows, heads }: RowsAndHeads,
): Float32Array {
  const { queryHeads, keyHeads, headSize } = config;
  const length = view.first + view.count;
  const count = rows.to - rows.from;
  const keyHeadOf = heads.map((head) => Math.floor((head * keyHeads) / queryHeads));
  const parts = readParts(plan, view, config, { rows, keyHeads: [...new Set(keyHeadOf)] });
  const alike = parts.every(({ segment }) => !(segment.tokens instanceof ChosenRows));
  const queries = view.queries();
  const turned = new Float32Array(headSize);
  const query = new Float64Array(headSize);
  const scores = new Float64Array(length);
  const metBy = new Int32Array(length);
  const weights = new Float32Array(heads.length * count * length);
  for (let t = 0; t < count; t++) {
    const m = rows.from + t;
    const seenBy = (head: number) => {
      const seen = parts
        .map((part) => ({ ...part, tokens: visibleTokens(part.segment, m, length, { head, queryHeads }) }))
        .filter(({ tokens }) => countOf(tokens) > 0);
      if (seen.length > 1) checkDisjoint(seen, metBy.fill(-1), m);
      return seen;
    };
    const seenByAll = alike ? seenBy(0) : null;
    const scale = (plan.temperature?.at(m) ?? 1) * attentionScaleOf(config);
    heads.forEach((head, h) => {
      const seen = seenByAll ?? seenBy(head);
      const from = ((m - view.first) * queryHeads + head) * headSize;
      let scored = 0;
      for (const { tokens, keys, turns } of seen) {
        turnRows(queries.subarray(from, from + headSize), turned, headSize, turns && anglesFrom(turns, t, 1), scale);
        query.set(turned); // numbers of the same type as the sum need no conversion
        scored += dotProducts(query, keys.heads.get(keyHeadOf[h])!, keys.rowOf, tokens, scores.subarray(scored));
      }
      softmax(scores.subarray(0, scored), config.attentionSoftCap);
      let at = 0;
      const row = weights.subarray((h * count + t) * length, (h * count + t + 1) * length);
      for (const { tokens } of seen) forEachToken(tokens, (token) => (row[token] = scores[at++]));
    });
  }
  return weights;
}

/** A segment of the plan that some row sees, the keys that it reads, and the angles of each row's query. */
interface Part {
  readonly segment: AttentionPlan["segments"][number];
  readonly number: number;
  readonly keys: RotatedKeys;
  /** Null where queries are not rotated. */
  readonly turns: Angles | null;
}

function readParts(
  plan: AttentionPlan,
  view: LayerView,
  config: ModelConfig,
  wanted: { readonly rows: Interval; readonly keyHeads: readonly number[] },
): Part[] {
  const { rows, keyHeads } = wanted;
  const seen = plan.segments
    .map((segment, number) => ({ segment, number, tokens: tokensSeenByRows(segment, rows, view.first + view.count) }))
    .filter(({ tokens }) => countOf(tokens) > 0);
  const keys = new KeysByRotation(view, seen.map(({ tokens }) => tokens), config, keyHeads); // prettier-ignore
  const queries = Array.from({ length: rows.to - rows.from }, (_, t) => rows.from + t);
  const turns = new Map<string, Angles>();
  return seen.map(({ segment, number }) => {
    const by = rotation(segment.table, segment.queryPosition);
    if (!by.identity && !turns.has(by.id)) turns.set(by.id, angles(by, queries, queries.length));
    return {
      segment,
      number,
      keys: keys.by(rotation(segment.table, segment.keyPosition)),
      turns: turns.get(by.id) ?? null,
    };
  });
}

/** Writes the dot product of a query [D] with each token's key to `scores`, in order, and returns their number. */
function dotProducts(
  query: Float64Array,
  keys: Float32Array,
  rowOf: Int32Array,
  tokens: Tokens,
  scores: Float64Array,
): number {
  const count = countOf(tokens);
  const [list, from] = tokens instanceof Int32Array ? [tokens, 0] : [null, tokens.from];
  for (let i = 0; i < count; i++) scores[i] = dotProduct(query, keys, rowOf[list ? list[i] : from + i] * query.length);
  return count;
}

function dotProduct(query: Float64Array, keys: Float32Array, at: number): number {
  const size = query.length;
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  let i = 0;
  for (; i + 4 <= size; i += 4) {
    a += query[i] * keys[at + i];
    b += query[i + 1] * keys[at + i + 1];
    c += query[i + 2] * keys[at + i + 2];
    d += query[i + 3] * keys[at + i + 3];
  }
  for (; i < size; i++) a += query[i] * keys[at + i];
  return a + b + (c + d);
}

/** Replaces scores by their softmax. */
function softmax(scores: Float64Array, cap: number | undefined): void {
  let largest = -Infinity;
  for (let i = 0; i < scores.length; i++) {
    if (cap !== undefined) scores[i] = cap * Math.tanh(scores[i] / cap);
    if (scores[i] > largest) largest = scores[i];
  }
  let total = 0;
  for (let i = 0; i < scores.length; i++) total += scores[i] = Math.exp(scores[i] - largest);
  for (let i = 0; i < scores.length; i++) scores[i] /= total;
}

/**
 * Throws if two segments of a plan show a query the same token, which one softmax would then count twice: a defect of
 * the method. `metBy` has −1 for every token.
 */
function checkDisjoint(
  seen: readonly { readonly number: number; readonly tokens: Tokens }[],
  metBy: Int32Array,
  query: number,
): void {
  for (const { number, tokens } of seen)
    forEachToken(tokens, (token) => {
      if (metBy[token] >= 0 && metBy[token] !== number)
        throw new Error(
          `The plan's segments ${metBy[token]} and ${number} both show token ${token} to query ${query}; segments have to be disjoint.`,
        );
      metBy[token] = number;
    });
}
