import type { AttentionPlan } from "../../method/plan.ts";
import { rotation, UNROTATED, type Rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import { anglesOf } from "./angle-tables.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { packed, type Section } from "./packed-sections.ts";
import { NOTHING, pieces, placeOf, Rotations, tiles, type TablesRequest, type WorkPath } from "./work-tables.ts";

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

const SECTIONS = ["rows", "angles", "targets", "work", "lanes", "lists", "ranges"] as const;
export type SectionName = (typeof SECTIONS)[number];

/** What the kernels of one chunk read; the same for all layers with the plan. */
export interface AttentionTables {
  readonly first: number;
  readonly count: number;
  /** Rotations of queries, the first in `angles`. */
  readonly queryRotations: number;
  /** Copies of keys that are written, as many as `targets`. */
  readonly keyCopies: number;
  readonly path: WorkPath;
  /** Tiles or pieces. */
  readonly workCount: number;
  /** Partial results, of which `ranges` has each row's [begin, end); 0 where tiles see all of their rows' keys. */
  readonly partCount: number;
  /** Scores of one head that tiles compute, masked ones too; 0 where the work is split. */
  readonly scores: number;
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
    partCount: work.parts,
    scores: work.scores,
    ...packed({
      rows: rowsOf(tokens, slots, (token) => (plan.temperature?.at(token) ?? 1) * LOG2_E * scale),
      angles: anglesOf(queries.list, tokens, pairs),
      targets: Uint32Array.from(targets),
      work: Int32Array.from(work.work),
      lanes: Int32Array.from(work.lanes),
      lists: Int32Array.from(work.lists),
      ranges: Int32Array.from(work.ranges),
    }),
  };
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
