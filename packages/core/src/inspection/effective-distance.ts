import type { Method } from "../method/method.ts";
import { sees, type AttentionPlan, type FrequencyTable, type Segment } from "../method/plan.ts";
import { checkCount, checkIndex, prepare, type RotationOptions } from "./rotation-options.ts";

/*
 * The functions of this file compute the angle g(m, n) · h(i) at which the query at text index m meets the key at n in
 * rotary pair i. They read it off the plan that backends compute, and need no model and no device.
 */

/**
 * Returns a method's frequency table, h(i) [d/2] and the amplitude on cos and sin, for a text of `length` tokens (T
 * unless given).
 * @throws LongctxError where the method refuses the model
 */
export function frequencyTable(method: Method, options: RotationOptions = {}): FrequencyTable {
  const { composition, context } = prepare(method, options);
  return composition.table(context, checkCount("length", options.length ?? context.trainedWindow));
}

/**
 * Returns the effective distance g(m, n) at which query m meets token n, in a prompt of `length` tokens (max(m, n) + 1
 * unless given). It is negative where a query sees a later token, a fraction under Leaky ReRoPE, and NaN where n is not
 * visible; tokens that a method chooses by the content of queries count as not visible.
 * @throws LongctxError "argument" where an index is outside of the text
 */
export function effectiveDistance(method: Method, m: number, n: number, options: RotationOptions = {}): number {
  return distanceThrough(segmentBetween(method, m, n, options), m, n);
}

/**
 * Returns the angle g(m, n) · h(i) in radians between query m and key n in rotary pair i; NaN where n is not visible.
 * @throws LongctxError "argument" where an index is outside of the text or of the pairs
 */
export function rotationAngle(method: Method, m: number, n: number, i: number, options: RotationOptions = {}): number {
  const segment = segmentBetween(method, m, n, options);
  if (!segment) return NaN;
  checkIndex("pair", i, segment.table.inverse.length);
  return distanceThrough(segment, m, n) * segment.table.inverse[i];
}

/** The distances g(m, n) that a method gives pairs of a query and a token, for some queries and tokens of a text. */
export interface DistanceMatrix {
  readonly queries: readonly number[];
  readonly tokens: readonly number[];
  /** The effective distances g(m, n) [queries, tokens], row-major; NaN where a query does not see a token. */
  readonly values: Float64Array;
}

/**
 * Returns the effective distances g(m, n) in a text of `length` tokens, for all queries and tokens or for those given.
 * @throws LongctxError "argument" where an index is outside of the text
 */
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
 * Returns a layer's plan (layer 0 unless given) for a prompt of `length` tokens that is read in one chunk.
 * @throws LongctxError "argument" where the layer does not exist
 */
export function planOfText(method: Method, options: RotationOptions & { readonly length: number }): AttentionPlan {
  const { composition, context } = prepare(method, options);
  const { layer = 0 } = options;
  const length = checkCount("length", options.length);
  checkIndex("layer", layer, context.config.layerCount);
  return composition.plan({ ...context, first: 0, count: length, length, promptLength: length, layer });
}

/** Returns the segment of the plan through which query m sees token n, or undefined where n is not visible. */
function segmentBetween(method: Method, m: number, n: number, options: RotationOptions): Segment | undefined {
  const length = checkCount("length", options.length ?? Math.max(m, n) + 1);
  checkIndex("query", m, length);
  checkIndex("token", n, length);
  return planOfText(method, { ...options, length }).segments.find((segment) => sees(segment, m, n));
}

function distanceThrough(segment: Segment | undefined, m: number, n: number): number {
  return segment ? segment.queryPosition.at(m) - segment.keyPosition.at(n) : NaN;
}
