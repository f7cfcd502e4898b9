import { intersect, type AttentionPlan, type Segment, type TokenRange } from "../method/plan.ts";
import type { SlotMap } from "./slots.ts";

/**
 * A plan made concrete for some consecutive queries: which slots each segment reads, and where a mask is needed.
 * Kernels work on lanes; nothing below them knows about methods.
 */
export interface Lane {
  readonly segment: Segment;
  /**
   * Slots [from, to) hold consecutive tokens beginning with `token`; or the slots of a list, with `tokens` beside it. The
   * listed tokens of the chunk itself are a stretch whose mask hides the others: a list is gathered before it is written.
   */
  readonly slots: { readonly from: number; readonly to: number } | Int32Array;
  readonly token: number;
  readonly tokens?: Int32Array;
  readonly width: number;
  /** Some query does not see some token: the kernel has to look at `bias`. */
  readonly masked: boolean;
}

/** Queries [first, first + count) and all they see, under one softmax. */
export interface Tile {
  readonly first: number;
  readonly count: number;
  readonly lanes: readonly Lane[];
  /** Lanes whose slots follow one another read one stretch of values: [first lane, last lane). */
  readonly stretches: readonly {
    readonly lanes: TokenRange;
    readonly slots: { readonly from: number; readonly to: number } | Int32Array;
  }[];
  /** Queries that see nothing at all give zeros. */
  readonly blind: boolean;
}

/** `chunk` is the first token of the chunk that the queries belong to, whose keys are being written. */
export function tileOf(plan: AttentionPlan, slots: SlotMap, first: number, count: number, chunk = first): Tile {
  const lanes = chained(plan.segments.flatMap((segment) => lanesOf(segment, slots, first, count, chunk)));
  return { first, count, lanes, stretches: stretchesOf(lanes), blind: sight(lanes, first, count).includes(false) };
}

/**
 * The same with a number of lanes that depends on nothing but the plan and the cache's layout, so that one graph serves
 * every chunk: each run of a segment is one lane with a mask, or three of which the middle one has none, and a lane that
 * is not there yet has no tokens. Null where that is not possible: lists, and queries that see nothing.
 */
export function uniformTileOf(plan: AttentionPlan, slots: SlotMap, first: number, count: number): Tile | null {
  const ring = slots.layout.pinned < slots.layout.capacity;
  // Scores of several lanes are copied side by side, which costs what going over a mask does: several may as well be more.
  const several = ring || plan.segments.length > 1;
  const lanes: Lane[] = [];
  const stretches: Tile["stretches"][number][] = [];
  for (const segment of plan.segments) {
    if (segment.tokens instanceof Int32Array) return null;
    const places = ring && segment.tokens.to > slots.layout.pinned ? 2 : 1;
    const runs = wholeRuns(segment, slots, first, count);
    if (runs.length > places) return null;
    const none = { segment, slots: { from: 0, to: 0 }, token: 0, width: 0, masked: true };
    for (let i = 0; i < places; i++) {
      const run = runs[i] ?? { ...none, middle: { from: 0, to: 0 } };
      const pieces = several ? inThree(run) : [run];
      stretches.push({ lanes: { from: lanes.length, to: lanes.length + pieces.length }, slots: run.slots });
      lanes.push(...pieces);
    }
  }
  if (sight(lanes, first, count).includes(false)) return null;
  return { first, count, lanes, stretches, blind: false };
}

/** A run of slots, and the tokens in it that every query sees. */
interface Run extends Lane {
  readonly slots: { readonly from: number; readonly to: number };
  readonly middle: TokenRange;
}

/** What some queries see, what all see, and again what some see. */
function inThree(run: Run): Lane[] {
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

/** A segment's runs of slots. */
function wholeRuns(segment: Segment, slots: SlotMap, first: number, count: number): Run[] {
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

function lanesOf(segment: Segment, slots: SlotMap, first: number, count: number, chunk: number): Lane[] {
  const queries = intersect(segment.queries ?? { from: -Infinity, to: Infinity }, { from: first, to: first + count });
  if (queries.from >= queries.to) return [];
  const last = queries.to - 1;
  // Query m sees tokens (m − band.to, m − band.from]: any of the queries sees `some`, every one of them sees `all`.
  const some = { from: queries.from - segment.band.to + 1, to: last - segment.band.from + 1 };
  const everyone = queries.from === first && queries.to === first + count;
  const all = everyone
    ? { from: last - segment.band.to + 1, to: queries.from - segment.band.from + 1 }
    : { from: 0, to: 0 };
  if (segment.tokens instanceof Int32Array) {
    const seen = segment.tokens.filter((token) => token >= some.from && token < some.to && slots.holds(token));
    const own = seen.findIndex((token) => token >= chunk);
    const tokens = own < 0 ? seen : seen.subarray(0, own);
    const lanes: Lane[] = own < 0 ? [] : stretch(segment, slots, seen[own], seen[seen.length - 1] + 1, true);
    if (tokens.length > 0) {
      const masked = tokens.some((token) => token < all.from || token >= all.to);
      const places = tokens.map((token) => slots.slotOf(token));
      lanes.unshift({ segment, slots: places, token: tokens[0], tokens, width: tokens.length, masked });
    }
    return lanes;
  }
  const { from, to } = intersect(segment.tokens, some);
  const middle = intersect({ from, to }, all);
  const cuts = middle.from < middle.to ? [from, middle.from, middle.to, to] : [from, to];
  return cuts.slice(1).flatMap((end, i) => {
    const begin = cuts[i];
    const masked = cuts.length === 2 ? true : i !== 1;
    return begin < end ? stretch(segment, slots, Math.max(begin, 0), end, masked) : [];
  });
}

/** The slots of tokens [from, to), a lane for each run. */
function stretch(segment: Segment, slots: SlotMap, from: number, to: number, masked: boolean): Lane[] {
  return slots.runs(from, to).map((run) => ({
    segment,
    slots: { from: run.from, to: run.to },
    token: run.token,
    width: run.to - run.from,
    masked,
  }));
}

/** Orders lanes so that as many as possible continue the slots of the one before. */
function chained(lanes: readonly Lane[]): Lane[] {
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

/** Finite, so that a row that sees nothing is wiped out afterwards rather than becoming NaN; exp of it is 0 all the same. */
const HIDDEN = -1e30;

/** 0 where query first + t sees the lane's token j, a huge negative number where it does not; [count, width]. */
export function bias(lane: Lane, first: number, count: number): Float32Array {
  const mask = new Float32Array(count * lane.width).fill(HIDDEN);
  const listed = listOf(lane);
  for (let t = 0; t < count; t++) {
    const row = mask.subarray(t * lane.width, (t + 1) * lane.width);
    const { from, to } = seenBy(lane, first + t);
    if (!listed) row.fill(0, Math.max(from - lane.token, 0), Math.max(to - lane.token, 0));
    else for (const { token, at } of listed) if (token >= from && token < to) row[at] = 0;
  }
  return mask;
}

/** The tokens that a list puts into the lane, and where they are in it; null for a lane of consecutive tokens. */
function listOf({ segment, tokens, token, width }: Lane): { readonly token: number; readonly at: number }[] | null {
  if (tokens) return Array.from(tokens, (listed, at) => ({ token: listed, at }));
  if (!(segment.tokens instanceof Int32Array)) return null;
  const inside = segment.tokens.filter((listed) => listed >= token && listed < token + width);
  return Array.from(inside, (listed) => ({ token: listed, at: listed - token }));
}

/** The tokens that a query's band reaches, held or not. */
function seenBy({ segment }: Lane, query: number): TokenRange {
  const asks = !segment.queries || (query >= segment.queries.from && query < segment.queries.to);
  return asks ? { from: query - segment.band.to + 1, to: query - segment.band.from + 1 } : { from: 0, to: 0 };
}

/** Does each of the queries see anything? */
export function sight(lanes: readonly Lane[], first: number, count: number): boolean[] {
  return Array.from({ length: count }, (_, t) =>
    lanes.some((lane) => {
      if (!lane.masked) return lane.width > 0;
      const { from, to } = seenBy(lane, first + t);
      const listed = listOf(lane);
      if (listed) return listed.some(({ token }) => token >= from && token < to);
      return Math.max(from, lane.token) < Math.min(to, lane.token + lane.width);
    }),
  );
}
