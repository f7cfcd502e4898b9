import type { FrequencyTable } from "../positions/frequencies.ts";
import type { PositionRule } from "../positions/rotation.ts";
import type { KeyIndexMaker } from "./key-index.ts";

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
 * A choice of tokens or of blocks of tokens (top-k retrieval), which a layer makes on the device by what its queries ask
 * for. Block j holds tokens [from + j · size, from + (j + 1) · size). Its score for query head h is q_h · k, with q_h
 * rotated to `queryPosition` and k what represents the block in head h's key head, its keys rotated to `keyPosition`. The
 * `count` candidates with the highest scores are taken; of equal scores, those with smaller j.
 */
export interface Choice {
  /** The choice's name within a plan; segments whose choices have equal ids share one choice. */
  readonly id: string;
  /** The number of tokens in a block; 1 where single tokens are chosen. */
  readonly size: number;
  /** The text index of the first token of block 0. */
  readonly from: number;
  /**
   * The number of candidate blocks of the last asking query: blocks [0, candidates) may be taken, and the KV cache holds
   * all of their tokens.
   */
  readonly candidates: number;
  /** The largest number of blocks that are taken; a query with fewer candidates takes all of them. */
  readonly count: number;
  /** The text indices of the queries that ask. */
  readonly asking: Interval;
  /**
   * Given where each asking query chooses for itself: its candidates are the blocks whose tokens are all at a distance of
   * at least `each.beyond` tokens from it. Otherwise all asking queries get one answer, which the mean of their raw
   * queries, rotated to the position of the first of them, asks for.
   */
  readonly each?: { readonly beyond: number };
  /**
   * Which query heads share one answer, by the sum of their scores: all of the layer ("heads", unless given), those of
   * one key head ("group"), or each query head has its own ("none").
   */
  readonly share?: "heads" | "group" | "none";
  /**
   * The query heads whose scores are summed where all heads share one answer, ascending; all heads of the layer unless
   * given. All heads see what these choose.
   */
  readonly askers?: readonly number[];
  /** What represents a block; the mean of its keys unless given. */
  readonly representative?: Representative;
  /** The frequency table that rotates queries and keys before they are scored, its amplitude included. */
  readonly table: FrequencyTable;
  readonly queryPosition: PositionRule;
  /** The position of keys; blocks of more than one token are scored by raw keys, so that the rule is 0 there. */
  readonly keyPosition: PositionRule;
  /**
   * Given where scores are cosines: the score of query head h in layer l is scales[l][h] · q · k / (|q| |k|), with norms
   * of at least 1e-6.
   */
  readonly scales?: readonly Float32Array[];
  /** An approximate index of nearest keys for single queries over tokens (`size` 1); chunks of queries are exact. */
  readonly index?: KeyIndexMaker;
}

/**
 * What represents a block of tokens in a choice. "mean": the mean of its keys. "bounds": the least and the largest value
 * of each channel, whose score is the sum over channels of max(q · least, q · largest), an upper bound of q · k for every
 * key of the block (Tang et al. 2024, arXiv:2406.10774, algorithm 1). "salient": the mean of the `tokens` keys of the
 * block with the largest attention mass, of equal masses those of the smaller tokens; the mass of token n in a key head is
 * the sum of n's attention probabilities over the queries m with 0 ≤ m − n < `band` and the key head's query heads (Xiao
 * et al. 2024, arXiv:2402.04617, section 3.2).
 */
export type Representative =
  | { readonly kind: "mean" }
  | { readonly kind: "bounds" }
  | { readonly kind: "salient"; readonly tokens: number; readonly band: number };

/**
 * The tokens of some of the chosen blocks: chosen blocks are ranked by their place in the text, and ranks [ranks.from,
 * ranks.to) belong to this segment.
 */
export interface ChosenTokens {
  readonly choice: Choice;
  readonly ranks: Interval;
}

/**
 * Tokens that each query, and each of some heads, has chosen for itself; a backend puts them in place of a choice before a
 * hook or a capture sees the plan. Queries [first, first + count) have `heads` lists each: one for all heads, one for each
 * key head, or one for each query head.
 */
export class ChosenRows {
  readonly first: number;
  readonly count: number;
  readonly heads: number;
  readonly #lists: readonly Int32Array[];

  /** `lists` are [count, heads]: the ascending text indices of the tokens that a query and a head have chosen. */
  constructor(first: number, count: number, heads: number, lists: readonly Int32Array[]) {
    this.first = first;
    this.count = count;
    this.heads = heads;
    this.#lists = lists;
  }

  /** Returns the tokens that row `row`, query first + row, has chosen for head `head` of `heads`, ascending. */
  list(row: number, head: number): Int32Array {
    return this.#lists[row * this.heads + head];
  }

  /** Returns the tokens that query m sees in query head `head` of `queryHeads`, ascending; none for other queries. */
  tokensOf(query: number, head: number, queryHeads: number): Int32Array {
    const row = query - this.first;
    if (row < 0 || row >= this.count) return NO_TOKENS;
    return this.list(row, Math.floor((head * this.heads) / queryHeads));
  }
}

const NO_TOKENS = new Int32Array(0);

/**
 * One entry of a plan: which cached tokens are visible to which queries, and at which positions and frequencies they
 * meet.
 */
export interface Segment {
  /**
   * The segment's tokens: a range, an ascending list of text indices, the tokens that a choice takes, or, once a layer has
   * chosen, a list for each query and head.
   */
  readonly tokens: Interval | Int32Array | ChosenTokens | ChosenRows;
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
  /** A second softmax over tokens that are chosen, whose output a gate mixes with the output of the first. */
  readonly gated?: GatedBranch;
  /** A compressive memory, whose output a gate mixes with the output of the softmax. */
  readonly memory?: MemoryBranch;
}

/**
 * A second softmax beside the first (Wu et al., "Memorizing Transformers", 2022, arXiv:2203.08913, section 3.2): query
 * head h's output is sigmoid(gate_h) · found + (1 − sigmoid(gate_h)) · first, with `found` the output of a softmax over
 * these segments alone, or zeros where a query sees none of their tokens. The segments' tokens are choices in which each
 * query chooses for itself.
 */
export interface GatedBranch {
  readonly segments: readonly Segment[];
  /**
   * The gates before the sigmoid, one for each layer and query head, [L][H]. All plans of a session share one object.
   */
  readonly gates: readonly Float32Array[];
  /**
   * Given where logits are cosines: scales[l][h] · q · k / (|q| |k|), with norms of at least 1e-6, and without 1/√D and
   * the plan's temperature; [L][H], the same object as `Choice.scales`.
   */
  readonly scales?: readonly Float32Array[];
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
  if ("choice" in segment.tokens || segment.tokens instanceof ChosenRows)
    throw new Error("Tokens that queries choose cannot be narrowed; narrow the segment before it gets a choice.");
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
 * Returns whether query m sees token n through this segment in query head `head`, or in any head unless one is given.
 * Blocks that are still to be chosen (top-k retrieval) do not count as seen.
 */
export function sees(segment: Segment, query: number, token: number, head?: HeadOf): boolean {
  const distance = query - token;
  const { tokens, band, queries } = segment;
  if (distance < band.from || distance >= band.to) return false;
  if (queries && (query < queries.from || query >= queries.to)) return false;
  if ("choice" in tokens) return false;
  if (tokens instanceof Int32Array) return tokens.includes(token);
  if (!(tokens instanceof ChosenRows)) return token >= tokens.from && token < tokens.to;
  if (head) return tokens.tokensOf(query, head.head, head.queryHeads).includes(token);
  return Array.from({ length: tokens.heads }, (_, list) => list).some((list) =>
    tokens.tokensOf(query, list, tokens.heads).includes(token),
  );
}

/** A query head of a layer with so many of them. */
export interface HeadOf {
  readonly head: number;
  readonly queryHeads: number;
}

/** Returns whether two plans describe the same attention; frequency tables and position rules are compared by id. */
export function samePlan(a: AttentionPlan, b: AttentionPlan): boolean {
  return (
    a.temperature?.id === b.temperature?.id &&
    a.memory === b.memory &&
    sameSegments(a.segments, b.segments) &&
    a.gated?.gates === b.gated?.gates &&
    a.gated?.scales === b.gated?.scales &&
    sameSegments(a.gated?.segments ?? [], b.gated?.segments ?? [])
  );
}

function sameSegments(a: readonly Segment[], b: readonly Segment[]): boolean {
  return a.length === b.length && a.every((segment, i) => sameSegment(segment, b[i]));
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
  if (a === b) return true;
  if (a instanceof Int32Array || b instanceof Int32Array) return false;
  if (a instanceof ChosenRows || b instanceof ChosenRows) return false;
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
    a.each?.beyond === b.each?.beyond &&
    a.share === b.share &&
    sameHeads(a.askers, b.askers) &&
    sameRepresentative(a.representative, b.representative) &&
    a.queryPosition.id === b.queryPosition.id &&
    a.keyPosition.id === b.keyPosition.id &&
    a.table.id === b.table.id &&
    a.scales === b.scales &&
    a.index?.id === b.index?.id &&
    sameRange(a.asking, b.asking)
  );
}

function sameHeads(a: Choice["askers"], b: Choice["askers"]): boolean {
  return a === b || (a?.length === b?.length && (a?.every((head, i) => head === b?.[i]) ?? false));
}

function sameRepresentative(a: Representative = MEAN, b: Representative = MEAN): boolean {
  if (a.kind !== "salient" || b.kind !== "salient") return a.kind === b.kind;
  return a.tokens === b.tokens && a.band === b.band;
}

const MEAN: Representative = { kind: "mean" };

function sameRange(a: Interval, b: Interval): boolean {
  return a.from === b.from && a.to === b.to;
}

/** Returns whether a plan has choices; the question costs a token nothing. */
export function hasChoices({ segments, gated }: AttentionPlan): boolean {
  return segments.some(isChoosing) || (gated?.segments.some(isChoosing) ?? false);
}

function isChoosing({ tokens }: Segment): boolean {
  return "choice" in tokens;
}

/** Returns the choices in a plan's segments, those of its gated branch included, each id once. */
export function choicesOf({ segments, gated }: AttentionPlan): Choice[] {
  const found = new Map<string, Choice>();
  for (const { tokens } of gated ? [...segments, ...gated.segments] : segments)
    if ("choice" in tokens) found.set(tokens.choice.id, tokens.choice);
  return [...found.values()];
}

/**
 * Returns whether all queries and all heads get one answer of a choice, so that it is a list of tokens like any other.
 */
export function isShared({ each, share = "heads" }: Choice): boolean {
  return each === undefined && share === "heads";
}

/** Returns how many blocks are candidates for query m: blocks [0, candidates). */
export function candidatesOf({ each, from, size, candidates }: Choice, query: number): number {
  if (!each) return candidates;
  return Math.max(0, Math.min(candidates, Math.floor((query - each.beyond + 1 - from) / size)));
}

/** Returns whether the KV cache has to keep raw keys for this plan, as choices and compressive memories read them. */
export function needsRawKeys(plan: AttentionPlan): boolean {
  return plan.memory !== undefined || (hasChoices(plan) && choicesOf(plan).some(scoresRawKeys));
}

function scoresRawKeys({ size, keyPosition }: Choice): boolean {
  return size > 1 || keyPosition.id === "0";
}

/**
 * Replaces the choices of a plan by the tokens taken: `taken` returns, for a choice that all queries and heads share, the
 * ascending indices of its blocks, and for others a list of blocks for each row and head.
 */
export function withChosen(
  plan: AttentionPlan,
  taken: (choice: Choice) => ArrayLike<number> | ChosenRows,
): AttentionPlan {
  if (!hasChoices(plan)) return plan;
  const replaced = (segments: readonly Segment[]) =>
    segments.flatMap((segment): Segment[] => {
      if (!("choice" in segment.tokens)) return [segment];
      const { choice, ranks } = segment.tokens;
      const blocks = taken(choice);
      if (blocks instanceof ChosenRows) return [{ ...segment, tokens: tokensOfRows(choice, blocks, ranks) }];
      const tokens = tokensOfBlocks(choice, Array.from(blocks).slice(ranks.from, ranks.to));
      return tokens.length > 0 ? [{ ...segment, tokens }] : [];
    });
  const segments = replaced(plan.segments);
  return plan.gated
    ? { ...plan, segments, gated: { ...plan.gated, segments: replaced(plan.gated.segments) } }
    : { ...plan, segments };
}

function tokensOfBlocks({ from, size }: Choice, blocks: ArrayLike<number>): Int32Array {
  const tokens = new Int32Array(blocks.length * size);
  for (let i = 0, at = 0; i < blocks.length; i++)
    for (let token = from + blocks[i] * size, end = token + size; token < end; token++) tokens[at++] = token;
  return tokens;
}

/** Makes lists of tokens of lists of blocks; rows and heads that share a list of blocks share the list of tokens. */
function tokensOfRows(choice: Choice, rows: ChosenRows, ranks: Interval): ChosenRows {
  const made = new Map<Int32Array, Int32Array>();
  const lists: Int32Array[] = [];
  for (let row = 0; row < rows.count; row++)
    for (let head = 0; head < rows.heads; head++) {
      const blocks = rows.list(row, head);
      const tokens = made.get(blocks) ?? tokensOfBlocks(choice, blocks.subarray(ranks.from, ranks.to));
      made.set(blocks, tokens);
      lists.push(tokens);
    }
  return new ChosenRows(rows.first, rows.count, rows.heads, lists);
}

/**
 * Returns the indices of the `count` blocks with the highest scores, ascending; of equal scores, smaller indices win.
 */
export function bestBlocks(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from(scores, (_, block) => block);
  order.sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}
