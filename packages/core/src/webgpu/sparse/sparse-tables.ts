import type { AttentionPlan, Choice, Interval } from "../../method/plan.ts";
import { choicesOf, ChosenRows, hasChoices, isShared } from "../../method/plan.ts";
import { rotation } from "../../positions/rotation.ts";
import type { SlotMap } from "../../state/slots.ts";
import type { AttentionShape } from "../attention/attention-shape.ts";
import { askingAngles } from "../attention/angle-tables.ts";
import { packed, type Section } from "../attention/packed-sections.ts";
import { isSparse } from "../attention/seen-lanes.ts";
import type { Rotations } from "../attention/work-tables.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { NONE, RunTables, type RunList, type SparseWork } from "./run-tables.ts";

/** Sparse attention, to tokens that queries or heads have chosen for themselves, as tables that kernels read. */

const SECTIONS = ["runs", "lists", "turns", "ranges", "asking"] as const;
export type SparseSection = (typeof SECTIONS)[number];

/** What the queries of a chunk read a plan's lists with. */
export interface SparseRequest {
  readonly plan: AttentionPlan;
  /** The map of a layer's ring; the chunk is appended already. */
  readonly slots: SlotMap;
  /** The chunk's queries: text indices [first, first + count). */
  readonly first: number;
  readonly count: number;
  readonly shape: AttentionShape;
  /** Which place of the ring holds the keys under a rotation, by its id. */
  readonly places: ReadonlyMap<string, number>;
}

/** Where the lists of a choice lie that is not one list for all queries and heads. */
export interface RowLists extends RunList {
  readonly choice: Choice;
  /** The index of the choice's angles in the section `asking`; null where each query chooses for itself. */
  readonly asking: number | null;
  /** The rotation of the queries that choose for themselves; null where their mean chooses. */
  readonly rotation: number | null;
}

/** What the sparse attention of one chunk reads; the same for all layers with the plan. */
export interface SparseTables {
  readonly first: number;
  readonly count: number;
  readonly rowLists: readonly RowLists[];
  /** The entries of all lists that the device chooses. */
  readonly entries: number;
  /** Runs under the plan's softmax: a part of each row for each work. */
  readonly joint: readonly SparseWork[];
  /** Runs of the plan's gated branch, likewise; null where it has none. */
  readonly gated: readonly SparseWork[] | null;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sections: Readonly<Record<SparseSection, Section>>;
}

/** Where a section is once the bytes are uploaded. */
export function sparseSection(tables: SparseTables, at: GpuSlice, name: SparseSection): GpuSlice {
  const { offset, size } = tables.sections[name];
  return { buffer: at.buffer, offset: at.offset + offset, size };
}

/** Returns whether some query or head of a plan has tokens of its own, or the plan a softmax over such tokens. */
export function hasSparse({ segments, gated }: AttentionPlan): boolean {
  return gated !== undefined || segments.some(isSparse);
}

/** Makes the tables of a plan, and adds the rotations of queries that they read to `queries`. */
export function sparseTables(request: SparseRequest, queries: Rotations): SparseTables {
  const { plan, first, count, shape } = request;
  const rowLists = listsOf(request, queries);
  const entries = rowLists.reduce((sum, { choice, heads, answers }) => sum + answers * heads * choice.count, 0);
  const runs = new RunTables(request, queries, new Map(rowLists.map((lists) => [lists.choice.id, lists])));
  const joint = runs.add(plan.segments.filter(isSparse));
  const gated = plan.gated ? runs.add(plan.gated.segments, plan.gated.scales === undefined) : null;
  const parts = gated?.length ?? 0;
  return {
    first,
    count,
    rowLists,
    entries,
    joint,
    gated,
    ...packed({
      runs: Int32Array.from(runs.words),
      lists: Uint32Array.from(runs.lists),
      turns: runs.turns,
      ranges: Int32Array.from({ length: 2 * count }, (_, i) => ((i + 1) >> 1) * parts),
      asking: askingAngles(
        rowLists.filter(({ asking }) => asking !== null).map(({ choice }) => choice),
        shape.pairs,
      ),
    }),
  };
}

/** The lists that the device chooses, those of one choice behind those of the one before. */
function listsOf({ plan, first, count, shape }: SparseRequest, queries: Rotations): RowLists[] {
  const { queryHeads, keyHeads } = shape;
  let at = 0;
  let asking = 0;
  const all = hasChoices(plan) ? choicesOf(plan) : [];
  return all
    .filter((choice) => !isShared(choice))
    .map((choice): RowLists => {
      const rows: Interval = {
        from: Math.max(0, choice.asking.from - first),
        to: Math.min(count, choice.asking.to - first),
      };
      const heads = { heads: 1, group: keyHeads, none: queryHeads }[choice.share ?? "heads"];
      const answers = choice.each ? Math.max(0, rows.to - rows.from) : 1;
      const own = choice.each
        ? { asking: null, rotation: queries.indexOf(rotation(choice.table, choice.queryPosition)) }
        : { asking: asking++, rotation: null };
      const lists = { choice, rows, heads, answers, at, ...own };
      at += answers * heads * choice.count;
      return lists;
    });
}

/** Makes of lists that the device chose, [answers, heads, count] with `NONE` behind their last entries, the blocks of each row. */
export function chosenRows(lists: RowLists, chosen: Uint32Array, first: number): ChosenRows {
  const { choice, rows, heads, answers, at } = lists;
  const count = Math.max(0, rows.to - rows.from);
  const own = Array.from({ length: answers * heads }, (_, i) => {
    const entries = chosen.subarray(at + i * choice.count, at + (i + 1) * choice.count);
    return Int32Array.from(entries.filter((entry) => entry !== NONE));
  });
  return new ChosenRows(
    first + rows.from,
    count,
    heads,
    Array.from({ length: count * heads }, (_, i) => own[answers === 1 ? i % heads : i]),
  );
}
