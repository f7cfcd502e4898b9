import type { FrequencyTable } from "../positions/frequencies.ts";
import type { PositionRule } from "../positions/rotation.ts";

export type { FrequencyTable } from "../positions/frequencies.ts";
export { constantPosition, TEXT_POSITION, type PositionRule } from "../positions/rotation.ts";

/**
 * Attention as a list of segments under one softmax. A plan answers, for every query m (index in the text) and every
 * cached token n: is n visible, and at which angle do the two meet? Everything a method does to attention is said here.
 */

/** Tokens [from, to) by index in the text; `to` may be Infinity. */
export interface TokenRange {
  readonly from: number;
  readonly to: number;
}

/** Some of the cached tokens as some of the queries see them. */
export interface Segment {
  /** A range, or an ascending list of token indices (retrieval). The cache knows the slots that hold them. */
  readonly tokens: TokenRange | Int32Array;
  readonly table: FrequencyTable;
  readonly queryPosition: PositionRule;
  readonly keyPosition: PositionRule;
  /** Visible where band.from ≤ m − n < band.to; causal attention is [0, ∞). */
  readonly band: TokenRange;
  /** The queries that have this segment at all; all of them unless given. */
  readonly queries?: TokenRange;
}

/** Segments are disjoint: a query meets a token in at most one of them. */
export interface AttentionPlan {
  readonly segments: readonly Segment[];
  /** τ: multiplies the scores of query m, beside 1/√D; 1 unless given. */
  readonly temperature?: PositionRule;
}

export const EVERYTHING: TokenRange = { from: 0, to: Infinity };

export function intersect(a: TokenRange, b: TokenRange): TokenRange {
  return { from: Math.max(a.from, b.from), to: Math.min(a.to, b.to) };
}

/** The segment narrowed to a band of true distances, or null when nothing is left. */
export function within(segment: Segment, band: TokenRange): Segment | null {
  const narrowed = intersect(segment.band, band);
  return narrowed.from < narrowed.to ? { ...segment, band: narrowed } : null;
}

/** The segment narrowed to some tokens, or null when nothing is left. */
export function among(segment: Segment, range: TokenRange): Segment | null {
  if (segment.tokens instanceof Int32Array) {
    const list = segment.tokens.filter((token) => token >= range.from && token < range.to);
    return list.length > 0 ? { ...segment, tokens: list } : null;
  }
  const tokens = intersect(segment.tokens, range);
  return tokens.from < tokens.to ? { ...segment, tokens } : null;
}

/** The segment narrowed to some queries, or null when nothing is left. */
export function askedBy(segment: Segment, range: TokenRange): Segment | null {
  const queries = segment.queries ? intersect(segment.queries, range) : range;
  return queries.from < queries.to ? { ...segment, queries } : null;
}

/** Does query m see token n through this segment? `n` must be a cached token; list membership is checked. */
export function sees(segment: Segment, query: number, token: number): boolean {
  const distance = query - token;
  if (distance < segment.band.from || distance >= segment.band.to) return false;
  if (segment.queries && (query < segment.queries.from || query >= segment.queries.to)) return false;
  return segment.tokens instanceof Int32Array
    ? segment.tokens.includes(token)
    : token >= segment.tokens.from && token < segment.tokens.to;
}

/** Do two plans say the same? Tables and rules are compared by their ids. */
export function samePlan(a: AttentionPlan, b: AttentionPlan): boolean {
  return (
    a.temperature?.id === b.temperature?.id &&
    a.segments.length === b.segments.length &&
    a.segments.every((segment, i) => sameSegment(segment, b.segments[i]))
  );
}

function sameSegment(a: Segment, b: Segment): boolean {
  return (
    a.table.id === b.table.id &&
    a.queryPosition.id === b.queryPosition.id &&
    a.keyPosition.id === b.keyPosition.id &&
    sameRange(a.band, b.band) &&
    (a.queries && b.queries ? sameRange(a.queries, b.queries) : a.queries === b.queries) &&
    (a.tokens instanceof Int32Array || b.tokens instanceof Int32Array
      ? a.tokens === b.tokens
      : sameRange(a.tokens, b.tokens))
  );
}

function sameRange(a: TokenRange, b: TokenRange): boolean {
  return a.from === b.from && a.to === b.to;
}
