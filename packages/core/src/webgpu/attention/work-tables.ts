import { tileOf, type Lane } from "../../state/lanes.ts";
import { rotation, type Rotation } from "../../positions/rotation.ts";
import type { AttentionPlan } from "../../method/plan.ts";
import type { SlotMap } from "../../state/slots.ts";
import { roundUp } from "../device/numbers.ts";

/** What the workgroups of attention do, as words that kernels read (lane-table.ts packs them). */

/**
 * Tiled: `work` holds tiles { row, rows, first lane, end of lanes, part of the first row, parts of a row } and `lanes`
 * what they see. Split: `work` holds pieces { first slot or place in the list, count, place of the keys, rotation of the
 * query, row, listed }.
 */
export type WorkPath = "tiled" | "split" | "none";

/** What tables are made for: one chunk's queries under one plan. */
export interface TablesRequest {
  readonly plan: AttentionPlan;
  /** The chunk is appended already. */
  readonly slots: SlotMap;
  /** The chunk's queries: text indices [first, first + count). */
  readonly first: number;
  readonly count: number;
  readonly headSize: number;
  /** What scores are multiplied by; 1/√D unless given. */
  readonly scale?: number;
  /** d/2 of the model. */
  readonly pairs: number;
  /** Which place of the cache holds the keys under a rotation, by its id; all of `keyRotations` are there. */
  readonly places: ReadonlyMap<string, number>;
  /** Queries that a workgroup takes at once; null: the work is split over keys, for a few queries. */
  readonly tileRows: number | null;
  /** Most keys of a piece of split work and least, where it has so many, and about how many pieces there had better be. */
  readonly pieces?: { readonly longest: number; readonly shortest: number; readonly wanted: number };
  /**
   * Of tiles, in how many parts all keys had better be gone over, and the least keys of one: tiles that see more are cut
   * into ranges of keys, and the longest come first. Absent: a tile goes over all it sees, in the order of the text.
   */
  readonly ranges?: { readonly wanted: number; readonly shortest: number };
  /** Keep keys without rotation too. */
  readonly rawKeys?: boolean;
  /** false when only the cache has to be written. */
  readonly attend?: boolean;
}

/** Distances and tokens beyond it mean "all". */
const FAR = 2 ** 30;

/** Rotations in the order of their first use. */
export class Rotations {
  readonly list: Rotation[] = [];
  readonly #indices = new Map<string, number>();

  indexOf(by: Rotation): number {
    let index = this.#indices.get(by.id);
    if (index === undefined) {
      index = this.list.push(by) - 1;
      this.#indices.set(by.id, index);
    }
    return index;
  }
}

export interface Work {
  readonly path: WorkPath;
  readonly count: number;
  readonly parts: number;
  readonly scores: number;
  readonly work: readonly number[];
  readonly lanes: readonly number[];
  readonly lists: readonly number[];
  readonly ranges: readonly number[];
}

export const NOTHING: Work = {
  path: "none",
  count: 0,
  parts: 0,
  scores: 0,
  work: [],
  lanes: [],
  lists: [],
  ranges: [],
};

/** Queries some at a time, each tile with the lanes that any of its rows sees, or with a range of what they hold. */
export function tiles(request: TablesRequest, queries: Rotations): Work {
  const { plan, slots, first, count, places, tileRows, ranges: wanted } = request;
  const lanes: number[] = [];
  const lists = new Lists();
  const seen = Array.from({ length: Math.ceil(count / tileRows!) }, (_, i) => {
    const row = i * tileRows!;
    const rows = Math.min(tileRows!, count - row);
    // Keys are written before they are read, so a list may name the chunk's own tokens.
    const found = tileOf(plan, slots, first + row, rows, Infinity).lanes;
    const width = found.reduce((sum, lane) => sum + lane.width, 0);
    return { row, rows, width, lanes: found.map((lane) => ({ lane, listed: lists.add(lane) })) };
  });
  const total = seen.reduce((sum, { width }) => sum + width, 0);
  const most = wanted ? roundUp(Math.max(wanted.shortest, Math.ceil(total / wanted.wanted)), 32) : Infinity;
  const whole = seen.every(({ width }) => width <= most);
  const items: { readonly width: number; readonly words: readonly number[] }[] = [];
  const ranges: number[] = [];
  let parts = 0;
  for (const { row, rows, width, lanes: of } of seen) {
    const step = whole ? 1 : Math.max(1, Math.ceil(width / most));
    for (let i = 0; i < step; i++) {
      const begin = lanes.length / LANE_WORDS;
      const range = { from: i === 0 ? 0 : i * most, to: Math.min(width, (i + 1) * most) };
      for (const { lane, from, to } of within(of, range))
        lanes.push(...laneWords(lane, { from, to }, placeOf(places, keysOf(lane.lane)), queries));
      const end = lanes.length / LANE_WORDS;
      items.push({ width: range.to - range.from, words: [row, rows, begin, end, parts + i, step] });
    }
    for (let r = 0; r < rows; r++) ranges.push(parts + r * step, parts + (r + 1) * step);
    parts += rows * step;
  }
  if (wanted) items.sort((a, b) => b.width - a.width);
  return {
    path: "tiled",
    count: items.length,
    parts: whole ? 0 : parts,
    scores: seen.reduce((sum, { rows, width }) => sum + rows * width, 0),
    work: items.flatMap(({ words }) => words),
    lanes,
    lists: lists.entries,
    ranges: whole ? [] : ranges,
  };
}

/** A lane, and where its list begins; null for a lane without one. */
interface PlacedLane {
  readonly lane: Lane;
  readonly listed: number | null;
}

/** Of lanes one after another, what lies in a range of the keys they hold together: [from, to) of each. */
function within(
  lanes: readonly PlacedLane[],
  range: { readonly from: number; readonly to: number },
): { readonly lane: PlacedLane; readonly from: number; readonly to: number }[] {
  let before = 0;
  return lanes.flatMap((lane) => {
    const from = Math.max(0, range.from - before);
    const to = Math.min(lane.lane.width, range.to - before);
    before += lane.lane.width;
    return from < to ? [{ lane, from, to }] : [];
  });
}

const LANE_WORDS = 10;

function laneWords(
  { lane, listed }: PlacedLane,
  { from, to }: { readonly from: number; readonly to: number },
  place: number,
  queries: Rotations,
): number[] {
  const { band, queries: asking, table, queryPosition } = lane.segment;
  return [
    (listed ?? firstSlot(lane)) + from,
    to - from,
    lane.token + from,
    place,
    queries.indexOf(rotation(table, queryPosition)),
    listed === null ? 0 : 1,
    near(band.from),
    near(band.to),
    near(asking?.from ?? -Infinity),
    near(asking?.to ?? Infinity),
  ];
}

/** One query at a time, all it sees cut into pieces that workgroups take side by side. */
export function pieces(request: TablesRequest, queries: Rotations): Work {
  const { plan, slots, first, count, places } = request;
  const { longest, shortest, wanted } = request.pieces ?? { longest: 256, shortest: 32, wanted: 64 };
  const work: number[] = [];
  const lists = new Lists();
  const ranges: number[] = [];
  let pieceCount = 0;
  for (let row = 0; row < count; row++) {
    const { lanes } = tileOf(plan, slots, first + row, 1, Infinity);
    const width = lanes.reduce((sum, lane) => sum + lane.width, 0);
    const size = Math.min(
      longest,
      roundUp(Math.max(1, Math.ceil((width * count) / wanted)), Math.min(shortest, longest)),
    );
    ranges.push(pieceCount);
    for (const lane of lanes) {
      const listed = lists.add(lane);
      const begin = listed ?? firstSlot(lane);
      const place = placeOf(places, keysOf(lane));
      const by = queries.indexOf(rotation(lane.segment.table, lane.segment.queryPosition));
      for (let at = 0; at < lane.width; at += size, pieceCount++)
        work.push(begin + at, Math.min(size, lane.width - at), place, by, row, listed === null ? 0 : 1);
    }
    ranges.push(pieceCount);
  }
  return {
    path: "split",
    count: pieceCount,
    parts: pieceCount,
    scores: 0,
    work,
    lanes: [],
    lists: lists.entries,
    ranges,
  };
}

/** Slots and tokens of the lanes that have a list, one after another. */
class Lists {
  readonly entries: number[] = [];

  /** Where the lane's list begins; null for a lane without one. */
  add({ slots, tokens, token }: Lane): number | null {
    if (!(slots instanceof Int32Array)) return null;
    const at = this.entries.length / 2;
    for (let i = 0; i < slots.length; i++) this.entries.push(slots[i], tokens?.[i] ?? token + i);
    return at;
  }
}

function firstSlot({ slots }: Lane): number {
  return slots instanceof Int32Array ? slots[0] : slots.from;
}

function keysOf({ segment }: Lane): Rotation {
  return rotation(segment.table, segment.keyPosition);
}

export function placeOf(places: ReadonlyMap<string, number>, { id }: Rotation): number {
  const place = places.get(id);
  if (place === undefined) throw new Error(`The cache keeps no keys under ${id}; it has to before tables are made.`);
  return place;
}

function near(limit: number): number {
  return Math.max(-FAR, Math.min(FAR, limit));
}
