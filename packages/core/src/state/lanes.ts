import {
  ChosenRows,
  intersect,
  type AttentionPlan,
  type ChosenTokens,
  type Segment,
  type Interval,
} from "../method/plan.ts";
import type { TokenSlots } from "./slots.ts";

/**
 * A lane: cache slots that some consecutive queries read under one segment of the plan, with a mask only where one is
 * needed. Attention kernels work on lanes and know nothing of methods.
 */
export interface Lane {
  readonly segment: Segment;
  /**
   * The cache slots of the lane's tokens: a range [from, to) that holds consecutive tokens from `token` on, or a list
   * of slots for the list `tokens`. Listed tokens of the current chunk get a masked range, because lists are gathered
   * from the cache before the chunk's keys are written there.
   */
  readonly slots: { readonly from: number; readonly to: number } | Int32Array;
  readonly token: number;
  readonly tokens?: Int32Array;
  readonly width: number;
  /** Whether some query does not see some token of the lane, so that the kernel has to add the mask from `bias`. */
  readonly masked: boolean;
}

/** A tile: the queries [first, first + count) of a chunk, and the lanes that they attend to under one softmax. */
export interface Tile {
  readonly first: number;
  readonly count: number;
  readonly lanes: readonly Lane[];
  /**
   * Runs of neighbouring lanes whose slots are contiguous, so that one matrix product reads the values of all of them;
   * `lanes` is a range of lane indices.
   */
  readonly stretches: readonly {
    readonly lanes: Interval;
    readonly slots: { readonly from: number; readonly to: number } | Int32Array;
  }[];
  /** Whether some query sees no token at all; the output of such a query is set to zeros. */
  readonly blind: boolean;
}

/**
 * Makes the tile of queries [first, first + count). `chunk` is the text index of the first token of the chunk being
 * read: from this token on, keys are not in the cache yet when a backend gathers the keys of listed tokens.
 */
export function tileOf(plan: AttentionPlan, slots: TokenSlots, first: number, count: number, chunk = first): Tile {
  const lanes = chainedBySlots(plan.segments.flatMap((segment) => lanesOf(segment, slots, first, count, chunk)));
  return { first, count, lanes, stretches: stretchesOf(lanes), blind: sight(lanes, first, count).includes(false) };
}

/**
 * Makes a tile whose number of lanes depends only on the plan and the cache's layout, so that one compiled graph serves
 * every chunk. Each run of slots becomes one masked lane, or three lanes of which the middle one is unmasked; lanes
 * without tokens yet are empty. Returns null for plans with lists or choices, and where a query sees no token.
 */
export function uniformTileOf(plan: AttentionPlan, slots: TokenSlots, first: number, count: number): Tile | null {
  const ring = slots.layout.pinned < slots.layout.capacity;
  // Splitting a run into three lanes, the middle one unmasked, saves adding a mask but costs concatenating their
  // scores, so it pays only where the scores of several lanes are concatenated anyway.
  const concatenated = ring || plan.segments.length > 1;
  const lanes: Lane[] = [];
  const stretches: Tile["stretches"][number][] = [];
  for (const segment of plan.segments) {
    if (isChosenOrListed(segment.tokens)) return null;
    const places = ring && segment.tokens.to > slots.layout.pinned ? 2 : 1;
    const runs = runsOf(segment, slots, first, count);
    if (runs.length > places) return null;
    const none = { segment, slots: { from: 0, to: 0 }, token: 0, width: 0, masked: true };
    for (let i = 0; i < places; i++) {
      const run = runs[i] ?? { ...none, middle: { from: 0, to: 0 } };
      const pieces = concatenated ? splitByMask(run) : [run];
      stretches.push({ lanes: { from: lanes.length, to: lanes.length + pieces.length }, slots: run.slots });
      lanes.push(...pieces);
    }
  }
  if (sight(lanes, first, count).includes(false)) return null;
  return { first, count, lanes, stretches, blind: false };
}

function isChosenOrListed(tokens: Segment["tokens"]): tokens is Int32Array | ChosenTokens | ChosenRows {
  return tokens instanceof Int32Array || tokens instanceof ChosenRows || "choice" in tokens;
}

/** A run of contiguous slots, with the range of its tokens that every query sees (`middle`). */
interface Run extends Lane {
  readonly slots: { readonly from: number; readonly to: number };
  readonly middle: Interval;
}

/**
 * Splits a run into three lanes: tokens that only some queries see, tokens that all queries see, and again tokens that
 * only some see.
 */
function splitByMask(run: Run): Lane[] {
  const { token, width, middle } = run;
  const cuts = [token, Math.max(middle.from, token), Math.max(middle.to, token), token + width];
  return [0, 1, 2].map((i) => ({
    segment: run.segment,
    slots: { from: run.slots.from + cuts[i] - token, to: run.slots.from + cuts[i + 1] - token },
    token: cuts[i],
    width: cuts[i + 1] - cuts[i],
    masked: i !== 1,
  }));
}

/** Returns the runs of contiguous slots that hold a segment's visible tokens. */
function runsOf(segment: Segment, slots: TokenSlots, first: number, count: number): Run[] {
  const pieces = lanesOf(segment, slots, first, count, first);
  if (pieces.length === 0) return [];
  const last = pieces[pieces.length - 1];
  return slots.runs(pieces[0].token, last.token + last.width).map((run) => {
    const end = run.token + (run.to - run.from);
    const open = pieces.filter((piece) => !piece.masked && piece.token >= run.token && piece.token < end);
    const middle =
      open.length > 0
        ? { from: open[0].token, to: open[open.length - 1].token + open[open.length - 1].width }
        : { from: end, to: end };
    return {
      segment,
      slots: { from: run.from, to: run.to },
      token: run.token,
      width: run.to - run.from,
      masked: true,
      middle,
    };
  });
}

function lanesOf(segment: Segment, slots: TokenSlots, first: number, count: number, chunk: number): Lane[] {
  const queries = intersect(segment.queries ?? { from: -Infinity, to: Infinity }, { from: first, to: first + count });
  if (queries.from >= queries.to) return [];
  const last = queries.to - 1;
  // Query m sees tokens n with m − band.to < n ≤ m − band.from; `seenByAny` unites the ranges of all queries.
  const seenByAny = { from: queries.from - segment.band.to + 1, to: last - segment.band.from + 1 };
  const everyQuery = queries.from === first && queries.to === first + count;
  const seenByAll = everyQuery
    ? { from: last - segment.band.to + 1, to: queries.from - segment.band.from + 1 }
    : { from: 0, to: 0 };
  if ("choice" in segment.tokens || segment.tokens instanceof ChosenRows)
    throw new Error("Lanes are made of tokens that all queries share; choices and lists of rows are no lanes.");
  if (segment.tokens instanceof Int32Array) {
    const seen = heldTokens(segment.tokens, slots, seenByAny);
    const own = seen.findIndex((token) => token >= chunk);
    const tokens = own < 0 ? seen : seen.subarray(0, own);
    const lanes: Lane[] = own < 0 ? [] : lanesOfRange(segment, slots, seen[own], seen[seen.length - 1] + 1, true);
    if (tokens.length > 0) {
      const masked = tokens.some((token) => token < seenByAll.from || token >= seenByAll.to);
      const places = new Int32Array(tokens.length);
      for (let i = 0; i < places.length; i++) places[i] = slots.slotOf(tokens[i]);
      lanes.unshift({ segment, slots: places, token: tokens[0], tokens, width: tokens.length, masked });
    }
    return lanes;
  }
  const { from, to } = intersect(segment.tokens, seenByAny);
  const middle = intersect({ from, to }, seenByAll);
  const cuts = middle.from < middle.to ? [from, middle.from, middle.to, to] : [from, to];
  return cuts.slice(1).flatMap((end, i) => {
    const begin = cuts[i];
    const masked = cuts.length === 2 ? true : i !== 1;
    return begin < end ? lanesOfRange(segment, slots, Math.max(begin, 0), end, masked) : [];
  });
}

/** Returns the tokens of a list that lie in a range and in the cache. */
function heldTokens(list: Int32Array, slots: TokenSlots, { from, to }: Interval): Int32Array {
  const held = new Int32Array(list.length);
  let count = 0;
  for (let i = 0; i < list.length; i++) {
    const token = list[i];
    if (token >= from && token < to && slots.holds(token)) held[count++] = token;
  }
  return held.subarray(0, count);
}

/** Returns one lane for each run of contiguous slots that hold tokens [from, to). */
function lanesOfRange(segment: Segment, slots: TokenSlots, from: number, to: number, masked: boolean): Lane[] {
  return slots.runs(from, to).map((run) => ({
    segment,
    slots: { from: run.from, to: run.to },
    token: run.token,
    width: run.to - run.from,
    masked,
  }));
}

/** Orders lanes so that as many as possible begin at the slot where the lane before them ends. */
function chainedBySlots(lanes: readonly Lane[]): Lane[] {
  const chains: Lane[][] = [];
  const begin = (lane: Lane) => (lane.slots instanceof Int32Array ? Infinity : lane.slots.from);
  for (const lane of [...lanes].sort((a, b) => begin(a) - begin(b))) {
    const chain = chains.find((candidate) => continues(candidate[candidate.length - 1], lane));
    if (chain) chain.push(lane);
    else chains.push([lane]);
  }
  return chains.flat();
}

function continues(before: Lane, lane: Lane): boolean {
  return (
    !(before.slots instanceof Int32Array) && !(lane.slots instanceof Int32Array) && before.slots.to === lane.slots.from
  );
}

function stretchesOf(lanes: readonly Lane[]): Tile["stretches"] {
  const stretches: Tile["stretches"][number][] = [];
  for (let from = 0; from < lanes.length;) {
    let to = from + 1;
    while (to < lanes.length && continues(lanes[to - 1], lanes[to])) to++;
    const [begin, end] = [lanes[from].slots, lanes[to - 1].slots];
    stretches.push({
      lanes: { from, to },
      slots: begin instanceof Int32Array || end instanceof Int32Array ? begin : { from: begin.from, to: end.to },
    });
    from = to;
  }
  return stretches;
}

/** The mask value of hidden tokens: its exp is 0, and being finite it makes no NaN where a whole row is hidden. */
export const HIDDEN = -1e30;

/** Returns the additive mask [count, width] of a lane: 0 where query first + t sees the lane's token j, else −1e30. */
export function bias(lane: Lane, first: number, count: number): Float32Array {
  const mask = new Float32Array(count * lane.width).fill(HIDDEN);
  const listed = listedTokens(lane);
  for (let t = 0; t < count; t++) {
    const row = mask.subarray(t * lane.width, (t + 1) * lane.width);
    const { from, to } = tokensInBand(lane, first + t);
    if (!listed) row.fill(0, Math.max(from - lane.token, 0), Math.max(to - lane.token, 0));
    else for (const { token, at } of listed) if (token >= from && token < to) row[at] = 0;
  }
  return mask;
}

/**
 * Returns the lane's tokens that come from a list, with their columns in the lane; null for a lane of consecutive
 * tokens.
 */
function listedTokens({
  segment,
  tokens,
  token,
  width,
}: Lane): { readonly token: number; readonly at: number }[] | null {
  if (tokens) return Array.from(tokens, (listed, at) => ({ token: listed, at }));
  if (!(segment.tokens instanceof Int32Array)) return null;
  const inside = segment.tokens.filter((listed) => listed >= token && listed < token + width);
  return Array.from(inside, (listed) => ({ token: listed, at: listed - token }));
}

/** Returns the range of tokens within the segment's band of a query, whether or not the cache holds them. */
function tokensInBand({ segment }: Lane, query: number): Interval {
  const asks = !segment.queries || (query >= segment.queries.from && query < segment.queries.to);
  return asks ? { from: query - segment.band.to + 1, to: query - segment.band.from + 1 } : { from: 0, to: 0 };
}

/** Returns for each of the queries whether it sees any token. */
export function sight(lanes: readonly Lane[], first: number, count: number): boolean[] {
  return Array.from({ length: count }, (_, t) =>
    lanes.some((lane) => {
      if (!lane.masked) return lane.width > 0;
      const { from, to } = tokensInBand(lane, first + t);
      const listed = listedTokens(lane);
      if (listed) return listed.some(({ token }) => token >= from && token < to);
      return Math.max(from, lane.token) < Math.min(to, lane.token + lane.width);
    }),
  );
}
