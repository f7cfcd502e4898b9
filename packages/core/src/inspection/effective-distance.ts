import type { Method } from "../method/method.ts";
import { sees, type AttentionPlan, type FrequencyTable, type Segment } from "../method/plan.ts";
import { checkCount, checkIndex, prepare, type RotationOptions } from "./rotation-options.ts";

/*
 * Under every method the query at text index m meets the token at n with the angle g(m, n) · h(i) in rotary pair i. The
 * functions of this file read both off the plan that backends compute; they need no model and no device.
 */

/**
 * h(i) [d/2] and the factor on cos and sin under a method, for a text of `length` tokens (T unless given).
 * @throws LongctxError
 */
export function frequencyTable(method: Method, options: RotationOptions = {}): FrequencyTable {
  const { composition, context } = prepare(method, options);
  return composition.table(context, checkCount("length", options.length ?? context.trainedWindow));
}

/**
 * g(m, n): the distance at which the query at text index m meets token n, in a prompt of `length` tokens (the shortest
 * with both unless given). The distance is negative where a query sees a later token, a fraction under Leaky ReRoPE,
 * and NaN where n is not visible. Tokens that a method chooses by the content of queries are not counted as visible.
 * @throws LongctxError
 */
export function effectiveDistance(method: Method, m: number, n: number, options: RotationOptions = {}): number {
  return distanceThrough(segmentBetween(method, m, n, options), m, n);
}

/**
 * g(m, n) · h(i), the angle in radians between query m and key n in rotary pair i; NaN where n is not visible.
 * @throws LongctxError
 */
export function rotationAngle(method: Method, m: number, n: number, i: number, options: RotationOptions = {}): number {
  const segment = segmentBetween(method, m, n, options);
  if (!segment) return NaN;
  checkIndex("pair", i, segment.table.inverse.length);
  return distanceThrough(segment, m, n) * segment.table.inverse[i];
}

export interface DistanceMatrix {
  readonly queries: readonly number[];
  readonly tokens: readonly number[];
  /** g(m, n) [queries, tokens], row after row; NaN where a token is not visible. */
  readonly values: Float64Array;
}

/** g(m, n) of all queries and tokens of a text of `length` tokens, or of those given. @throws LongctxError */
export function distanceMatrix(
  method: Method,
  length: number,
  options: Omit<RotationOptions, "length"> & {
    readonly queries?: readonly number[];
    readonly tokens?: readonly number[];
  } = {},
): DistanceMatrix {
  checkCount("length", length);
  const all = (): number[] => Array.from({ length }, (_, index) => index);
  const { queries = all(), tokens = all() } = options;
  for (const m of queries) checkIndex("query", m, length);
  for (const n of tokens) checkIndex("token", n, length);
  const { segments } = planOfText(method, { ...options, length });
  const values = new Float64Array(queries.length * tokens.length);
  queries.forEach((m, row) => {
    const here = segments.filter(
      (segment) => !segment.queries || (m >= segment.queries.from && m < segment.queries.to),
    );
    tokens.forEach((n, column) => {
      const segment = here.find((candidate) => sees(candidate, m, n));
      values[row * tokens.length + column] = distanceThrough(segment, m, n);
    });
  });
  return { queries, tokens, values };
}

/**
 * The plan of a layer (0 unless given) for a prompt of `length` tokens that is read in one chunk. @throws LongctxError
 */
export function planOfText(method: Method, options: RotationOptions & { readonly length: number }): AttentionPlan {
  const { composition, context } = prepare(method, options);
  const { layer = 0 } = options;
  const length = checkCount("length", options.length);
  checkIndex("layer", layer, context.config.layerCount);
  return composition.plan({ ...context, first: 0, count: length, length, promptLength: length, layer });
}

/** The segment through which query m sees token n, if it does. */
function segmentBetween(method: Method, m: number, n: number, options: RotationOptions): Segment | undefined {
  const length = checkCount("length", options.length ?? Math.max(m, n) + 1);
  checkIndex("query", m, length);
  checkIndex("token", n, length);
  return planOfText(method, { ...options, length }).segments.find((segment) => sees(segment, m, n));
}

function distanceThrough(segment: Segment | undefined, m: number, n: number): number {
  return segment ? segment.queryPosition.at(m) - segment.keyPosition.at(n) : NaN;
}
