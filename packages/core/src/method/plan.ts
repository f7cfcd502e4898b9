import type { FrequencyTable } from "../positions/frequencies.ts";
import type { PositionRule } from "../positions/rotation.ts";

export type { FrequencyTable } from "../positions/frequencies.ts";
export { constantPosition, TEXT_POSITION, type PositionRule } from "../positions/rotation.ts";

/**
 * This file defines the attention plan, a list of segments under one softmax. A plan says for every query m and every
 * cached token n (both text indices) whether n is visible and at which rotary distance m meets n.
 */

/** The whole numbers [from, to), of text indices, distances or ranks; `to` may be Infinity. */
export interface Interval {
  readonly from: number;
  readonly to: number;
}

/**
 * A choice of blocks of tokens (top-k retrieval), which a layer makes on the device by what its queries ask for. Block
 * j holds tokens [from + j · size, from + (j + 1) · size). Its score is the sum over all query heads of q · k, with q
 * the mean of the asking queries rotated to `position`, and k the mean of the block's raw keys. The `count` blocks with
 * the highest scores are taken; of blocks with equal scores, those with smaller j.
 */
export interface Choice {
  /** The choice's name within a plan; segments whose choices have equal ids share one choice. */
  readonly id: string;
  /** The number of tokens in a block. */
  readonly size: number;
  /** The text index of the first token of block 0. */
  readonly from: number;
  /**
   * The number of candidate blocks: blocks [0, candidates) may be taken, and the KV cache holds all of their tokens.
   */
  readonly candidates: number;
  /** The number of blocks that are taken, at most `candidates`. */
  readonly count: number;
  /** The text indices of the queries whose mean is scored against the blocks' mean keys. */
  readonly asking: Interval;
  /**
   * The frequency table that rotates the mean query to `position`. Its amplitude applies to the query and to the mean
   * keys, which count as keys at position 0.
   */
  readonly table: FrequencyTable;
  readonly position: number;
}

/**
 * The tokens of some of the chosen blocks: chosen blocks are ranked by their place in the text, and ranks [ranks.from,
 * ranks.to) belong to this segment.
 */
export interface ChosenTokens {
  readonly choice: Choice;
  readonly ranks: Interval;
}

/**
 * One entry of a plan: which cached tokens are visible to which queries, and at which positions and frequencies they
 * meet.
 */
export interface Segment {
  /** The segment's tokens: a range, an ascending list of text indices, or the blocks that a choice takes. */
  readonly tokens: Interval | Int32Array | ChosenTokens;
  readonly table: FrequencyTable;
  readonly queryPosition: PositionRule;
  readonly keyPosition: PositionRule;
  /** The distances m − n at which query m sees token n: band.from ≤ m − n < band.to; causal attention is [0, ∞). */
  readonly band: Interval;
  /** The queries that see tokens through this segment; all queries of the chunk unless given. */
  readonly queries?: Interval;
}

/**
 * The attention of a chunk in a layer: segments under one softmax. Segments are disjoint, so that a query sees a token
 * through at most one of them.
 */
export interface AttentionPlan {
  readonly segments: readonly Segment[];
  /** The temperature τ(m): a factor on the scores of query m beside 1/√D; 1 unless given. */
  readonly temperature?: PositionRule;
  /** A compressive memory, whose output a gate mixes with the output of the softmax. */
  readonly memory?: MemoryBranch;
}

/**
 * A compressive memory beside the softmax (Munkhdalai, Faruqui, Gopal 2024, arXiv:2404.07143, eq. 7 to 10), with M [D,
 * D] and z [D] in float32 for each layer and key head, and with σ(x) = ELU(x) + 1 of queries and keys before the
 * rotation. Query head h reads A = σ(q) M / (σ(q) · z), or zeros where the denominator is 0, as before the first write.
 * The layer's output is sigmoid(gate_h) · A + (1 − sigmoid(gate_h)) · softmax output. A segment of the text is written
 * when the first token after it is read: M += σ(K)ᵀ V (`linear`) or M += σ(K)ᵀ (V − σ(K) M / (σ(K) z)) (`delta`), and z
 * += Σ σ(K).
 */
export interface MemoryBranch {
  /**
   * The number of tokens in a segment of the text, which the memory takes in at once; segments begin at multiples of
   * it.
   */
  readonly segment: number;
  readonly update: "linear" | "delta";
  /**
   * The gates before the sigmoid, one for each layer and query head, [L][H]. All plans of a session share one object.
   */
  readonly gates: readonly Float32Array[];
}

/** The range of all tokens; as a band of distances it is causal attention. */
export const EVERYTHING: Interval = { from: 0, to: Infinity };

/** Returns the intersection of two ranges, which is empty where `from` is not below `to`. */
export function intersect(a: Interval, b: Interval): Interval {
  return { from: Math.max(a.from, b.from), to: Math.min(a.to, b.to) };
}

/** Narrows a segment to a band of true distances m − n; returns null when no distance is left. */
export function within(segment: Segment, band: Interval): Segment | null {
  const narrowed = intersect(segment.band, band);
  return narrowed.from < narrowed.to ? { ...segment, band: narrowed } : null;
}

/** Narrows a segment to tokens of a range; returns null when no token is left. */
export function among(segment: Segment, range: Interval): Segment | null {
  if ("choice" in segment.tokens)
    throw new Error(
      "Tokens that are still to be chosen cannot be narrowed; narrow the segment before it gets a choice.",
    );
  if (segment.tokens instanceof Int32Array) {
    const list = segment.tokens.filter((token) => token >= range.from && token < range.to);
    return list.length > 0 ? { ...segment, tokens: list } : null;
  }
  const tokens = intersect(segment.tokens, range);
  return tokens.from < tokens.to ? { ...segment, tokens } : null;
}

/** Narrows a segment to queries of a range; returns null when no query is left. */
export function askedBy(segment: Segment, range: Interval): Segment | null {
  const queries = segment.queries ? intersect(segment.queries, range) : range;
  return queries.from < queries.to ? { ...segment, queries } : null;
}

/**
 * Returns whether query m sees token n through this segment. Blocks that are still to be
 * chosen (top-k retrieval) do not count as seen.
 */
export function sees(segment: Segment, query: number, token: number): boolean {
  const distance = query - token;
  if (distance < segment.band.from || distance >= segment.band.to) return false;
  if (segment.queries && (query < segment.queries.from || query >= segment.queries.to)) return false;
  if ("choice" in segment.tokens) return false;
  return segment.tokens instanceof Int32Array
    ? segment.tokens.includes(token)
    : token >= segment.tokens.from && token < segment.tokens.to;
}

/** Returns whether two plans describe the same attention; frequency tables and position rules are compared by id. */
export function samePlan(a: AttentionPlan, b: AttentionPlan): boolean {
  return (
    a.temperature?.id === b.temperature?.id &&
    a.memory === b.memory &&
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
    sameTokens(a.tokens, b.tokens)
  );
}

function sameTokens(a: Segment["tokens"], b: Segment["tokens"]): boolean {
  if (a instanceof Int32Array || b instanceof Int32Array) return a === b;
  if ("choice" in a || "choice" in b)
    return "choice" in a && "choice" in b && sameChoice(a.choice, b.choice) && sameRange(a.ranks, b.ranks);
  return sameRange(a, b);
}

function sameChoice(a: Choice, b: Choice): boolean {
  return (
    a.id === b.id &&
    a.size === b.size &&
    a.from === b.from &&
    a.candidates === b.candidates &&
    a.count === b.count &&
    a.position === b.position &&
    a.table.id === b.table.id &&
    sameRange(a.asking, b.asking)
  );
}

function sameRange(a: Interval, b: Interval): boolean {
  return a.from === b.from && a.to === b.to;
}

/** Returns whether a plan has choices; the question costs a token nothing. */
export function hasChoices({ segments }: AttentionPlan): boolean {
  return segments.some(({ tokens }) => "choice" in tokens);
}

/** Returns the choices in a plan's segments, each id once. */
export function choicesOf({ segments }: AttentionPlan): Choice[] {
  const found = new Map<string, Choice>();
  for (const { tokens } of segments) if ("choice" in tokens) found.set(tokens.choice.id, tokens.choice);
  return [...found.values()];
}

/** Returns whether the KV cache has to keep raw keys for this plan, as choices and compressive memories read them. */
export function needsRawKeys(plan: AttentionPlan): boolean {
  return plan.memory !== undefined || hasChoices(plan);
}

/**
 * Replaces the choices of a plan by lists of tokens; `blocks` returns the ascending indices of the blocks that a choice
 * took.
 */
export function withChosen(plan: AttentionPlan, blocks: (choice: Choice) => ArrayLike<number>): AttentionPlan {
  if (!hasChoices(plan)) return plan;
  const segments = plan.segments.flatMap((segment): Segment[] => {
    if (!("choice" in segment.tokens)) return [segment];
    const { choice, ranks } = segment.tokens;
    const taken = Array.from(blocks(choice)).slice(ranks.from, ranks.to);
    if (taken.length === 0) return [];
    const { from, size } = choice;
    const tokens = Int32Array.from({ length: taken.length * size }, (_, i) => from + taken[Math.floor(i / size)] * size + (i % size)); // prettier-ignore
    return [{ ...segment, tokens }];
  });
  return { ...plan, segments };
}

/**
 * Returns the indices of the `count` blocks with the highest scores, ascending; of equal scores, smaller indices win.
 */
export function bestBlocks(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from(scores, (_, block) => block);
  order.sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}
