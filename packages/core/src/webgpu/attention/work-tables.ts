import { rotation, type Rotation } from "../../positions/rotation.ts";
import type { AttentionPlan, Segment } from "../../method/plan.ts";
import type { SlotMap } from "../../state/slots.ts";
import { roundUp } from "../device/numbers.ts";
import { SeenLanes, type ChosenList, type PlacedLane } from "./seen-lanes.ts";

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
  /** Which place of the ring holds the keys under a rotation, by its id; all of `keyRotations` are there. */
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
  /** Rotations of queries that other kernels read, before those of attention; none unless given. */
  readonly queries?: Rotations;
  /**
   * Given where each row's attention is written as parts, whatever the path: behind the parts that attention itself writes
   * every row has so many more, which other kernels write before `attention-reduce` reads them.
   */
  readonly otherParts?: number;
  /** Keep keys without rotation too. */
  readonly rawKeys?: boolean;
  /** false when only the ring has to be written. */
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
  readonly chosen: readonly ChosenList[];
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
  chosen: [],
  ranges: [],
};

/** Queries some at a time, each tile with the lanes that any of its rows sees, or with a range of what they hold. */
export function tiles(request: TablesRequest, queries: Rotations): Work {
  const { count, places, tileRows, ranges: wanted, otherParts } = request;
  const words: number[] = [];
  const seeing = new SeenLanes(request);
  const seen = Array.from({ length: Math.ceil(count / tileRows!) }, (_, i) => {
    const row = i * tileRows!;
    const rows = Math.min(tileRows!, count - row);
    const lanes = seeing.lanes(row, rows);
    return { row, rows, width: lanes.reduce((sum, lane) => sum + lane.width, 0), lanes };
  });
  const total = seen.reduce((sum, { width }) => sum + width, 0);
  const most = wanted ? roundUp(Math.max(wanted.shortest, Math.ceil(total / wanted.wanted)), 32) : Infinity;
  const whole = otherParts === undefined && seen.every(({ width }) => width <= most);
  const items: { readonly width: number; readonly words: readonly number[] }[] = [];
  const ranges: number[] = [];
  let parts = 0;
  for (const { row, rows, width, lanes } of seen) {
    const own = whole ? 1 : Math.max(1, Math.ceil(width / most));
    const step = own + (otherParts ?? 0);
    for (let i = 0; i < own; i++) {
      const begin = words.length / LANE_WORDS;
      const range = { from: i === 0 ? 0 : i * most, to: Math.min(width, (i + 1) * most) };
      for (const { lane, from, to } of within(lanes, range))
        words.push(...laneWords(lane, { from, to }, places, queries));
      const end = words.length / LANE_WORDS;
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
    work: items.flatMap(({ words: of }) => of),
    lanes: words,
    ...seeing.lists,
    ranges: whole ? [] : ranges,
  };
}

/** Of lanes one after another, what lies in a range of the keys they hold together: [from, to) of each. */
function within(
  lanes: readonly PlacedLane[],
  range: { readonly from: number; readonly to: number },
): { readonly lane: PlacedLane; readonly from: number; readonly to: number }[] {
  let before = 0;
  return lanes.flatMap((lane) => {
    const from = Math.max(0, range.from - before);
    const to = Math.min(lane.width, range.to - before);
    before += lane.width;
    return from < to ? [{ lane, from, to }] : [];
  });
}

const LANE_WORDS = 10;

function laneWords(
  { segment, begin, token, listed }: PlacedLane,
  { from, to }: { readonly from: number; readonly to: number },
  places: ReadonlyMap<string, number>,
  queries: Rotations,
): number[] {
  const { band, queries: asking, table, queryPosition } = segment;
  return [
    begin + from,
    to - from,
    token + from,
    placeOf(places, keysOf(segment)),
    queries.indexOf(rotation(table, queryPosition)),
    listed ? 1 : 0,
    finite(band.from),
    finite(band.to),
    finite(asking?.from ?? -Infinity),
    finite(asking?.to ?? Infinity),
  ];
}

/** One query at a time, all it sees cut into pieces that workgroups take side by side. */
export function pieces(request: TablesRequest, queries: Rotations): Work {
  const { count, places, otherParts = 0 } = request;
  const { longest, shortest, wanted } = request.pieces ?? { longest: 256, shortest: 32, wanted: 64 };
  const work: number[] = [];
  const seeing = new SeenLanes(request);
  const ranges: number[] = [];
  let pieceCount = 0;
  for (let row = 0; row < count; row++) {
    const lanes = seeing.lanes(row, 1);
    const width = lanes.reduce((sum, lane) => sum + lane.width, 0);
    const size = Math.min(
      longest,
      roundUp(Math.max(1, Math.ceil((width * count) / wanted)), Math.min(shortest, longest)),
    );
    ranges.push(pieceCount);
    for (const { segment, begin, width: end, listed } of lanes) {
      const place = placeOf(places, keysOf(segment));
      const by = queries.indexOf(rotation(segment.table, segment.queryPosition));
      for (let at = 0; at < end; at += size, pieceCount++)
        work.push(begin + at, Math.min(size, end - at), place, by, row, listed ? 1 : 0);
    }
    // A piece without keys leaves its part to another kernel, which writes it later.
    for (let i = 0; i < otherParts; i++, pieceCount++) work.push(0, 0, 0, 0, row, 0);
    ranges.push(pieceCount);
  }
  return {
    path: "split",
    count: pieceCount,
    parts: pieceCount,
    scores: 0,
    work,
    lanes: [],
    ...seeing.lists,
    ranges,
  };
}

function keysOf({ table, keyPosition }: Segment): Rotation {
  return rotation(table, keyPosition);
}

export function placeOf(places: ReadonlyMap<string, number>, { id }: Rotation): number {
  const place = places.get(id);
  if (place === undefined) throw new Error(`The ring keeps no keys under ${id}; it has to before tables are made.`);
  return place;
}

/** Returns a limit of distances or tokens as a 32-bit number; a limit beyond all texts stands for Infinity. */
export function finite(limit: number): number {
  return Math.max(-FAR, Math.min(FAR, limit));
}
