import type { Choice } from "../../method/plan.ts";
import { UNROTATED } from "../../positions/rotation.ts";
import { quadsOf, type AttentionShape } from "../attention/attention-shape.ts";
import { sectionOf, type AttentionTables } from "../attention/lane-table.ts";
import { scoresTokens } from "../attention/seen-lanes.ts";
import { placeOf } from "../attention/work-tables.ts";
import { part } from "../device/copies.ts";
import type { Capabilities, Dispatch, GpuSlice } from "../device/kernel.ts";
import type { Workspace } from "../device/workspace.ts";
import { indexKey, representativeOf } from "../state/layer-buffers.ts";
import { askingQuery } from "./asking-query.ts";
import { indexBlocks } from "./block-index.ts";
import { blockScores, chooseBlocks } from "./choose-blocks.ts";
import { choiceScores } from "./choice-scores.ts";
import type { LayerChoices } from "./choice-work.ts";
import { asMean, rowChoice, scoredKeys } from "./row-choices.ts";

/**
 * The dispatches that choose for a layer. What all queries and heads share goes into the lists that attention reads, and
 * the blocks themselves where `chosenBlocks` says; the lists of rows and heads go where `chosenLists` says.
 */
export function layerChoices(
  shape: AttentionShape,
  capabilities: Capabilities,
  workspace: Workspace,
  work: LayerChoices,
): Dispatch[] {
  const { tables, sparse } = work;
  const chosen = [...tables.chosen, ...(sparse?.tables.rowLists ?? [])].map(({ choice }) => choice);
  const dispatches = indexes(shape, capabilities, work, chosen);
  let chosenAt = 0;
  tables.chosen.forEach(({ choice, at }, which) => {
    dispatches.push(...shared(shape, capabilities, workspace, work, { choice, listAt: at, which, chosenAt }));
    chosenAt += choice.count;
  });
  if (sparse)
    for (const lists of sparse.tables.rowLists)
      dispatches.push(...rowChoice(shape, capabilities, workspace, { ...work, sparse }, lists));
  return dispatches;
}

/** Completes the indexes that choices read: of one kind of blocks, room is made and representatives are computed at once. */
function indexes(
  shape: AttentionShape,
  capabilities: Capabilities,
  { ring, slots, places, indexOf, mass }: LayerChoices,
  choices: readonly Choice[],
): Dispatch[] {
  const most = new Map<string, Choice>();
  for (const choice of choices) {
    if (scoresTokens(choice) || choice.count === 0) continue;
    const key = indexKey(choice);
    if (choice.candidates > (most.get(key)?.candidates ?? 0)) most.set(key, choice);
  }
  return [...most.values()].flatMap((choice) => {
    const { candidates } = choice;
    const index = indexOf(choice, candidates);
    if (index.known >= candidates) return [];
    const blocks = { first: index.known, end: candidates };
    index.known = candidates;
    const rawPlace = placeOf(places, UNROTATED);
    return indexBlocks(shape, capabilities, { ring, layout: slots.layout, rawPlace, index, blocks, mass });
  });
}

/** A choice that all queries and heads share, and where its blocks and tokens go. */
interface SharedChoice {
  readonly choice: Choice;
  readonly listAt: number;
  readonly which: number;
  readonly chosenAt: number;
}

function shared(
  shape: AttentionShape,
  capabilities: Capabilities,
  workspace: Workspace,
  work: LayerChoices,
  { choice, listAt, which, chosenAt }: SharedChoice,
): Dispatch[] {
  const { tables, uploaded, queries, slots, indexOf } = work;
  const { candidates } = choice;
  const scores = workspace.take("block scores", 4 * candidates);
  const angles = sectionOf(tables, uploaded, "asking");
  const asking = (heads: "key heads" | "query heads", slice: GpuSlice) =>
    askingQuery(shape, { tables, uploaded, queries, choice, angles, which, heads, asking: slice });
  const chosen = chosenBlocks(workspace, tables);
  const lists = sectionOf(tables, uploaded, "lists");
  const chosenBy = chooseBlocks({ choice, layout: slots.layout, scores, chosen, chosenAt, lists, listAt });
  // The sum over all heads of products is one product; other scores are summed head by head.
  if (!scoresTokens(choice) && representativeOf(choice).kind !== "bounds" && !choice.askers) {
    const width = shape.keyHeads * quadsOf(shape);
    const sums = workspace.take("asking query", 16 * width);
    const { representatives } = indexOf(choice, candidates);
    return [
      asking("key heads", sums),
      blockScores({ blocks: candidates, width, asking: sums, means: representatives, scores }, capabilities),
      chosenBy,
    ];
  }
  const byHead = workspace.take("asking query of heads", 16 * shape.queryHeads * quadsOf(shape));
  const scored = scoredKeys(work, choice, asMean(workspace, choice));
  return [
    asking("query heads", byHead),
    ...choiceScores(shape, capabilities, {
      queries: byHead,
      rotation: 0,
      chunk: 1,
      firstRow: 0,
      rows: 1,
      lists: 1,
      candidates,
      askers: choice.askers,
      scored,
      scores,
    }),
    chosenBy,
  ];
}

/** Where the indices of the chosen blocks are, those of one choice behind those of the one before, as `tables.chosen` has them. */
export function chosenBlocks(workspace: Workspace, { chosen }: AttentionTables): GpuSlice {
  const bytes = 4 * chosen.reduce((sum, { choice }) => sum + choice.count, 0);
  return part(workspace.take("chosen blocks", bytes), 0, bytes);
}
