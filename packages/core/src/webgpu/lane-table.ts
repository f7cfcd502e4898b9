import { tileOf, type Lane } from "../lanes.ts";
import type { AttentionPlan } from "../plan.ts";
import { rotation, UNROTATED, type Rotation } from "../rotation.ts";
import type { SlotMap } from "../slots.ts";
import { anglesOf } from "./angle-tables.ts";
import type { GpuSlice } from "./kernel.ts";
import { roundUp } from "./numbers.ts";
import { packed, type Section } from "./packed-sections.ts";

/**
 * An `AttentionPlan` for one chunk as tables that kernels read. A host does this for each plan of a chunk:
 *
 * 1. `keyRotations(plan, rawKeys)`: the copies of the keys that the layer's cache has to keep, by `Rotation.id`;
 * 2. `attentionTables({ plan, slots, places, … })` after `slots.append`, `places` being where in the cache each copy is;
 * 3. `tables.bytes` uploaded in one piece, at a multiple of 256 bytes;
 * 4. for every layer with this plan and these places, the dispatches of `kernels/attention.ts`.
 */

/** The rotations that keys are kept under for a plan; its order means nothing, its ids are unique. */
export function keyRotations(plan: AttentionPlan, rawKeys = false): Rotation[] {
  const found = new Map<string, Rotation>();
  for (const { table, keyPosition } of plan.segments) {
    const by = rotation(table, keyPosition);
    found.set(by.id, by);
  }
  if (rawKeys || plan.segments.length === 0) found.set(UNROTATED.id, UNROTATED);
  return [...found.values()];
}

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
  /** Most keys of a piece of split work, and about how many pieces there had better be. */
  readonly pieces?: { readonly longest: number; readonly wanted: number };
  /** Keep keys without rotation too. */
  readonly rawKeys?: boolean;
  /** false when only the cache has to be written. */
  readonly attend?: boolean;
}

const SECTIONS = ["rows", "angles", "targets", "work", "lanes", "lists"] as const;
export type SectionName = (typeof SECTIONS)[number];

/** What the kernels of one chunk read; the same for all layers with the plan. */
export interface AttentionTables {
  readonly first: number;
  readonly count: number;
  /** Rotations of queries, the first in `angles`. */
  readonly queryRotations: number;
  /** Copies of keys that are written, as many as `targets`. */
  readonly keyCopies: number;
  /**
   * Tiled: `work` holds tiles { row, rows, first lane, end of lanes } and `lanes` what they see.
   * Split: `work` holds pieces { first slot or place in the list, count, place of the keys, rotation of the query, row,
   * listed } and `lanes` the pieces [begin, end) of each row.
   */
  readonly path: "tiled" | "split" | "none";
  /** Tiles or pieces. */
  readonly workCount: number;
  /** All sections, each at a multiple of 256. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sections: Readonly<Record<SectionName, Section>>;
}

/** Where a section is once the bytes are uploaded. */
export function sectionOf(tables: AttentionTables, at: GpuSlice, name: SectionName): GpuSlice {
  const { offset, size } = tables.sections[name];
  return { buffer: at.buffer, offset: at.offset + offset, size };
}

/** Scores are powers of two on the device. */
const LOG2_E = Math.LOG2E;
/** Distances and tokens beyond it mean "all". */
const FAR = 2 ** 30;

export function attentionTables(request: TablesRequest): AttentionTables {
  const { plan, slots, first, count, pairs, places, scale = 1 / Math.sqrt(request.headSize) } = request;
  const queries = new Rotations();
  const work =
    request.attend === false ? NOTHING : request.tileRows ? tiles(request, queries) : pieces(request, queries);
  const queryRotations = queries.list.length;
  const copies = keyRotations(plan, request.rawKeys);
  const targets = copies.flatMap((by) => [queries.indexOf(by), placeOf(places, by)]);
  const tokens = Array.from({ length: count }, (_, t) => first + t);
  return {
    first,
    count,
    queryRotations,
    keyCopies: copies.length,
    path: work.path,
    workCount: work.count,
    ...packed({
      rows: rowsOf(tokens, slots, (token) => (plan.temperature?.at(token) ?? 1) * LOG2_E * scale),
      angles: anglesOf(queries.list, tokens, pairs),
      targets: Uint32Array.from(targets),
      work: Int32Array.from(work.work),
      lanes: Int32Array.from(work.lanes),
      lists: Int32Array.from(work.lists),
    }),
  };
}

/** Rotations in the order of their first use. */
class Rotations {
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

interface Work {
  readonly path: AttentionTables["path"];
  readonly count: number;
  readonly work: readonly number[];
  readonly lanes: readonly number[];
  readonly lists: readonly number[];
}

const NOTHING: Work = { path: "none", count: 0, work: [], lanes: [], lists: [] };

/** Queries some at a time, each tile with the lanes that any of its rows sees. */
function tiles({ plan, slots, first, count, places, tileRows }: TablesRequest, queries: Rotations): Work {
  const work: number[] = [];
  const lanes: number[] = [];
  const lists = new Lists();
  let laneCount = 0;
  for (let row = 0; row < count; row += tileRows!) {
    const rows = Math.min(tileRows!, count - row);
    // Keys are written before they are read, so a list may name the chunk's own tokens.
    const tile = tileOf(plan, slots, first + row, rows, Infinity);
    for (const lane of tile.lanes) {
      const { band, queries: asking } = lane.segment;
      const listed = lists.add(lane);
      lanes.push(
        listed ?? firstSlot(lane),
        lane.width,
        lane.token,
        placeOf(places, keysOf(lane)),
        queries.indexOf(rotation(lane.segment.table, lane.segment.queryPosition)),
        listed === null ? 0 : 1,
        near(band.from),
        near(band.to),
        near(asking?.from ?? -Infinity),
        near(asking?.to ?? Infinity),
      );
    }
    work.push(row, rows, laneCount, laneCount + tile.lanes.length);
    laneCount += tile.lanes.length;
  }
  return { path: "tiled", count: work.length / 4, work, lanes, lists: lists.entries };
}

/** One query at a time, all it sees cut into pieces that workgroups take side by side. */
function pieces(request: TablesRequest, queries: Rotations): Work {
  const { plan, slots, first, count, places } = request;
  const { longest, wanted } = request.pieces ?? { longest: 256, wanted: 64 };
  const work: number[] = [];
  const lists = new Lists();
  const ranges: number[] = [];
  let pieceCount = 0;
  for (let row = 0; row < count; row++) {
    const { lanes } = tileOf(plan, slots, first + row, 1, Infinity);
    const width = lanes.reduce((sum, lane) => sum + lane.width, 0);
    const size = Math.min(longest, roundUp(Math.max(1, Math.ceil((width * count) / wanted)), Math.min(32, longest)));
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
  return { path: "split", count: pieceCount, work, lanes: ranges, lists: lists.entries };
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

function placeOf(places: ReadonlyMap<string, number>, { id }: Rotation): number {
  const place = places.get(id);
  if (place === undefined) throw new Error(`The cache keeps no keys under ${id}; it has to before tables are made.`);
  return place;
}

function near(limit: number): number {
  return Math.max(-FAR, Math.min(FAR, limit));
}

/** { slot, factor of the scores } for each token. */
function rowsOf(tokens: readonly number[], slots: SlotMap, scale: (token: number) => number): Uint32Array {
  const rows = new Uint32Array(2 * tokens.length);
  const factors = new Float32Array(rows.buffer);
  tokens.forEach((token, t) => {
    rows[2 * t] = slots.slotOf(token);
    factors[2 * t + 1] = scale(token);
  });
  return rows;
}
