import type { Choice } from "../../method/plan.ts";
import { rotation } from "../../positions/rotation.ts";
import { quadsOf, type AttentionShape } from "../attention/attention-shape.ts";
import { sectionOf } from "../attention/lane-table.ts";
import { scoresTokens } from "../attention/seen-lanes.ts";
import { placeOf } from "../attention/work-tables.ts";
import { part } from "../device/copies.ts";
import type { Capabilities, Dispatch, GpuSlice } from "../device/kernel.ts";
import { MOST_WORK } from "../device/submissions.ts";
import type { Workspace } from "../device/workspace.ts";
import { representativeOf } from "../state/layer-buffers.ts";
import { sparseSection, type RowLists, type SparseTables } from "../sparse/sparse-tables.ts";
import { askingQuery } from "./asking-query.ts";
import { choiceScores, type ScoredKeys } from "./choice-scores.ts";
import { chooseRows } from "./choose-rows.ts";
import type { LayerChoices } from "./choice-work.ts";

/** Bytes of the scores of some rows, which are chosen from before the next rows are scored. */
const SCORE_BYTES = 2 ** 26;

/** Where the lists of rows and heads are, as `tables.rowLists` has them. */
export function chosenLists(workspace: Workspace, { entries }: Pick<SparseTables, "entries">): GpuSlice {
  const bytes = 4 * Math.max(1, entries);
  return part(workspace.take("chosen lists", bytes), 0, bytes);
}

/** What scores are multiplied by beside the products of queries and keys. */
interface Factors {
  /** Of channels that are rotated, where the keys are raw and the queries lack the amplitude of keys. */
  readonly amplitude: number;
  /** { slot, factor } of each row of the queries, which cosines are freed from; null where scores are products. */
  readonly factors: GpuSlice | null;
}

/** The factors of a mean of queries, which has the amplitude of keys and no factor of a row. */
export function asMean(workspace: Workspace, { scales }: Choice): Factors {
  return { amplitude: 1, factors: scales ? workspace.put(Float32Array.of(0, 1)) : null };
}

/** Returns the keys or the representatives that a choice scores. */
export function scoredKeys(work: LayerChoices, choice: Choice, { amplitude, factors }: Factors): ScoredKeys {
  const { ring, slots, places, indexOf, scalesOf } = work;
  const { from: begin, table, keyPosition, candidates, scales } = choice;
  if (scoresTokens(choice)) {
    const place = placeOf(places, rotation(table, keyPosition));
    const cosine = scales && { ...scalesOf(choice), rows: factors! };
    return { ring, layout: slots.layout, place, begin, cosine };
  }
  if (scales) throw new Error("Blocks are scored by products; only single tokens are scored by cosines.");
  const { representatives } = indexOf(choice, candidates);
  const kind = representativeOf(choice).kind === "bounds" ? "bounds" : "rows";
  return { representatives, kind, amplitude };
}

/**
 * The dispatches of a choice whose answer is not shared by all queries and heads: some rows are scored at once, as many as
 * a bounded buffer holds the scores of, and choose before the next ones.
 */
export function rowChoice(
  shape: AttentionShape,
  capabilities: Capabilities,
  workspace: Workspace,
  work: LayerChoices & { readonly sparse: NonNullable<LayerChoices["sparse"]> },
  lists: RowLists,
): Dispatch[] {
  const { tables, uploaded, queries, sparse, scoreBytes = SCORE_BYTES } = work;
  const { choice, rows, heads, answers, at, asking } = lists;
  const { candidates, count, table } = choice;
  if (count === 0 || answers === 0 || rows.from >= rows.to) return [];
  const chosen = chosenLists(workspace, sparse.tables);
  const dispatches: Dispatch[] = [];
  const own = (() => {
    if (asking === null) {
      const scored = scoredKeys(work, choice, {
        amplitude: table.amplitude,
        factors: sectionOf(tables, uploaded, "rows"),
      });
      return { queries, rotation: lists.rotation!, chunk: tables.count, firstRow: rows.from, scored };
    }
    const mean = workspace.take("asking query of heads", 16 * shape.queryHeads * quadsOf(shape));
    const angles = sparseSection(sparse.tables, sparse.uploaded, "asking");
    dispatches.push(
      askingQuery(shape, {
        tables,
        uploaded,
        queries,
        choice,
        angles,
        which: asking,
        heads: "query heads",
        asking: mean,
      }),
    );
    const scored = scoredKeys(work, choice, asMean(workspace, choice));
    return { queries: mean, rotation: 0, chunk: 1, firstRow: 0, scored };
  })();
  const rowBytes = 4 * heads * candidates;
  const rowWork = shape.queryHeads * candidates * shape.headSize;
  const bytes = Math.min(scoreBytes, capabilities.maxBinding);
  const step = Math.max(1, Math.min(answers, Math.floor(bytes / rowBytes), Math.floor(MOST_WORK / rowWork)));
  const scores = workspace.take("choice scores", Math.max(4, step * rowBytes));
  for (let row = 0; row < answers; row += step) {
    const some = Math.min(step, answers - row);
    dispatches.push(
      ...choiceScores(shape, capabilities, {
        ...own,
        firstRow: own.firstRow + row,
        rows: some,
        lists: heads,
        candidates,
        askers: choice.askers,
        scores,
      }),
      chooseRows(
        {
          choice,
          first: tables.first + rows.from + row,
          rows: some,
          lists: heads,
          scores,
          chosen,
          chosenAt: at + row * heads * count,
        },
        capabilities,
      ),
    );
  }
  return dispatches;
}
