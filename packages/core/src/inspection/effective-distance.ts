import type { Method } from "../method/method.ts";
import { sees, type AttentionPlan, type FrequencyTable, type Segment } from "../method/plan.ts";
import { checkCount, checkIndex, prepare, type RotationOptions } from "./rotation-options.ts";

/**
 * The unified statement of every method that needs no training: query m meets token n at the angle g(m, n) · h(i) in
 * rotary pair i. Read off the plan that a backend computes, so there is one truth; no model and no device is needed.
 */

/** h(i) and the factor on cos and sin, for a text of `length` tokens (T unless given). @throws LongctxError */
export function frequencyTable(method: Method, options: RotationOptions = {}): FrequencyTable {
  const { composition, context } = prepare(method, options);
  return composition.table(context, checkCount("length", options.length ?? context.trainedWindow));
}

/**
 * g(m, n): the distance at which the query at text index m meets token n, read as one prompt of `length` tokens (the
 * shortest that has both unless given). Signed where a method sees ahead, a fraction under Leaky ReRoPE, NaN where n is
 * not visible. What a method retrieves by the content of queries is not in it. @throws LongctxError
 */
export function effectiveDistance(method: Method, m: number, n: number, options: RotationOptions = {}): number {
  return distanceThrough(meeting(method, m, n, options), m, n);
}

/** g(m, n) · h(i): radians between query m and key n in rotary pair i; NaN where n is not visible. @throws LongctxError */
export function rotationAngle(method: Method, m: number, n: number, i: number, options: RotationOptions = {}): number {
  const segment = meeting(method, m, n, options);
  if (!segment) return NaN;
  checkIndex("pair", i, segment.table.inverse.length);
  return distanceThrough(segment, m, n) * segment.table.inverse[i];
}

export interface DistanceMatrix {
  readonly queries: readonly number[];
  readonly tokens: readonly number[];
  /** [queries, tokens], row after row; NaN where a token is not visible. */
  readonly values: Float64Array;
}

/** g(m, n) of a whole text of `length` tokens, or of some of its queries and tokens. @throws LongctxError */
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

/** The plan of a layer for a prompt of N tokens read at once. @throws LongctxError */
export function planOfText(method: Method, options: RotationOptions & { readonly length: number }): AttentionPlan {
  const { composition, context } = prepare(method, options);
  const { layer = 0 } = options;
  const length = checkCount("length", options.length);
  checkIndex("layer", layer, context.config.layerCount);
  return composition.plan({ ...context, first: 0, count: length, length, promptLength: length, layer });
}

function meeting(method: Method, m: number, n: number, options: RotationOptions): Segment | undefined {
  const length = checkCount("length", options.length ?? Math.max(m, n) + 1);
  checkIndex("query", m, length);
  checkIndex("token", n, length);
  return planOfText(method, { ...options, length }).segments.find((segment) => sees(segment, m, n));
}

function distanceThrough(segment: Segment | undefined, m: number, n: number): number {
  return segment ? segment.queryPosition.at(m) - segment.keyPosition.at(n) : NaN;
}
