import { LongctxError } from "../../common/errors.ts";
import {
  ChosenRows,
  intersect,
  type AttentionPlan,
  type ChosenTokens,
  type Interval,
  type Segment,
} from "../../method/plan.ts";
import { rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import { finite, placeOf, type Rotations } from "../attention/work-tables.ts";

/** The queries of a chunk under a plan, of which attention masses are counted at distances below `band`. */
export interface MassRequest {
  readonly plan: AttentionPlan;
  readonly band: number;
  readonly slots: SlotMap;
  /** The chunk's queries: text indices [first, first + count). */
  readonly first: number;
  readonly count: number;
  readonly places: ReadonlyMap<string, number>;
}

/** What the kernel of attention masses goes over: tokens [tokens.from, tokens.to), and the lanes that show them. */
export interface MassLanes {
  readonly tokens: Interval;
  readonly laneCount: number;
  /** In the order of `MASS_LANE`. */
  readonly words: Int32Array;
}

export const MASS_LANE = `struct Lane {
  slot: u32, count: i32, token: i32, place: u32, rotation: u32, bandFrom: i32, bandTo: i32, queriesFrom: i32, queriesTo: i32,
}`;

/**
 * Makes a lane of each run of consecutive tokens that a segment shows to some query at a distance within the band, and adds
 * the rotations of queries to `queries`.
 * @throws LongctxError "method" where tokens within the band are chosen, since lanes are made before they are
 */
export function massLanes(request: MassRequest, queries: Rotations): MassLanes {
  const { plan, band, slots, first, count, places } = request;
  const tokens = { from: Math.max(0, first - band + 1), to: first + count };
  const words = plan.segments.flatMap((segment) => {
    const near = intersect(segment.band, { from: 0, to: band });
    const asking = intersect(segment.queries ?? { from: -Infinity, to: Infinity }, { from: first, to: first + count });
    if (near.from >= near.to || asking.from >= asking.to) return [];
    return rangesOf(segment, asking, band).flatMap((range) => {
      const own = intersect(range, tokens);
      return slots
        .runs(own.from, own.to)
        .flatMap(({ from, to, token }) => [
          from,
          to - from,
          token,
          placeOf(places, rotation(segment.table, segment.keyPosition)),
          queries.indexOf(rotation(segment.table, segment.queryPosition)),
          finite(near.from),
          near.to,
          asking.from,
          asking.to,
        ]);
    });
  });
  return { tokens, laneCount: words.length / LANE_WORDS, words: Int32Array.from(words) };
}

const LANE_WORDS = 9;

/** The tokens of a segment as ranges; none where all are chosen beyond the band. */
function rangesOf({ tokens }: Segment, asking: Interval, band: number): Interval[] {
  if (tokens instanceof Int32Array) return consecutive(tokens);
  if (tokens instanceof ChosenRows ? isNear(tokens, band) : "choice" in tokens && mayBeNear(tokens, asking, band))
    throw new LongctxError(
      "method",
      `Attention masses are counted at distances below ${band}, where queries choose tokens too, which webgpu does not count; choose tokens at larger distances, or use the device reference.`,
    );
  return tokens instanceof ChosenRows || "choice" in tokens ? [] : [tokens];
}

function consecutive(tokens: Int32Array): Interval[] {
  const ranges: Interval[] = [];
  for (let i = 0; i < tokens.length;) {
    let end = i + 1;
    while (end < tokens.length && tokens[end] === tokens[end - 1] + 1) end++;
    ranges.push({ from: tokens[i], to: tokens[end - 1] + 1 });
    i = end;
  }
  return ranges;
}

function isNear(rows: ChosenRows, band: number): boolean {
  for (let row = 0; row < rows.count; row++)
    for (let head = 0; head < rows.heads; head++) {
      const list = rows.list(row, head);
      if (list.length > 0 && rows.first + row - list[list.length - 1] < band) return true;
    }
  return false;
}

function mayBeNear({ choice, ranks }: ChosenTokens, asking: Interval, band: number): boolean {
  const { each, from, size, candidates, count } = choice;
  if (Math.min(ranks.to, count) <= ranks.from || candidates === 0) return false;
  return each ? each.beyond < band : asking.from - (from + size * candidates - 1) < band;
}
