import { choicesOf, hasChoices, type AttentionPlan } from "../../method/plan.ts";
import { UNROTATED } from "../../positions/rotation.ts";
import { keyRotations } from "../../state/key-copies.ts";
import type { SlotMap } from "../../state/slots.ts";
import { anglesOf, askingAngles } from "./angle-tables.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { packed, type Section } from "./packed-sections.ts";
import { NOTHING, pieces, placeOf, Rotations, tiles, type TablesRequest, type WorkPath } from "./work-tables.ts";
import type { ChosenList } from "./seen-lanes.ts";

/**
 * An `AttentionPlan` for one chunk as tables that kernels read. A host does this for each plan of a chunk:
 *
 * 1. `keyRotations(plan, rawKeys)`: the copies of the keys that the layer's ring has to keep, by `Rotation.id`;
 * 2. `attentionTables({ plan, slots, places, … })` after `slots.append`, `places` being where in the ring each copy is;
 * 3. `tables.bytes` uploaded in one piece, at a multiple of 256 bytes;
 * 4. for every layer with this plan and these places, the dispatches of `kernels/attention.ts`.
 */

const SECTIONS = ["rows", "angles", "targets", "work", "lanes", "lists", "ranges"] as const;
export type SectionName = (typeof SECTIONS)[number];

/** What the kernels of one chunk read; the same for all layers with the plan. */
export interface AttentionTables {
  readonly first: number;
  readonly count: number;
  /** Rotations of queries, the first in `angles`. */
  readonly queryRotations: number;
  /** Which of them turns nothing; null where neither a choice nor a memory reads queries without rotation. */
  readonly rawRotation: number | null;
  /** The lists that the device fills in, in the order of the angles in `asking`. */
  readonly chosen: readonly ChosenList[];
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
  readonly sections: Readonly<Record<SectionName, Section> & { readonly asking?: Section }>;
}

/** Where a section is once the bytes are uploaded. */
export function sectionOf(tables: AttentionTables, at: GpuSlice, name: SectionName | "asking"): GpuSlice {
  const { offset, size } = tables.sections[name]!;
  return { buffer: at.buffer, offset: at.offset + offset, size };
}

/** Scores are powers of two on the device. */
const LOG2_E = Math.LOG2E;

export function attentionTables(request: TablesRequest): AttentionTables {
  const { plan, slots, first, count, pairs, places, scale = 1 / Math.sqrt(request.headSize) } = request;
  const { queries = new Rotations() } = request;
  const work =
    request.attend === false ? NOTHING : request.tileRows ? tiles(request, queries) : pieces(request, queries);
  const rawRotation = request.attend !== false && readsRawQueries(plan) ? queries.indexOf(UNROTATED) : null;
  const queryRotations = queries.list.length;
  const copies = keyRotations(plan, request.rawKeys);
  const targets = copies.flatMap((by) => [queries.indexOf(by), placeOf(places, by)]);
  const tokens = Array.from({ length: count }, (_, t) => first + t);
  const parts = {
    rows: rowsOf(tokens, slots, (token) => (plan.temperature?.at(token) ?? 1) * LOG2_E * scale),
    angles: anglesOf(queries.list, tokens, pairs),
    targets: Uint32Array.from(targets),
    work: Int32Array.from(work.work),
    lanes: Int32Array.from(work.lanes),
    lists: Int32Array.from(work.lists),
    ranges: Int32Array.from(work.ranges),
  };
  return {
    first,
    count,
    queryRotations,
    rawRotation,
    chosen: work.chosen,
    keyCopies: copies.length,
    path: work.path,
    workCount: work.count,
    partCount: work.parts,
    scores: work.scores,
    ...(work.chosen.length > 0
      ? packed({
          ...parts,
          asking: askingAngles(
            work.chosen.map(({ choice }) => choice),
            pairs,
          ),
        })
      : packed(parts)),
  };
}

/** A memory reads queries without rotation, and so does a choice that the mean of several queries asks for. */
function readsRawQueries(plan: AttentionPlan): boolean {
  return plan.memory !== undefined || (hasChoices(plan) && choicesOf(plan).some(({ each }) => !each));
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
