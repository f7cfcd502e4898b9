import type { Choice } from "../../method/plan.ts";
import type { SlotMap } from "../../state/slots.ts";
import { quadsOf, type AttentionShape, type LayerRing } from "../attention/attention-shape.ts";
import { sectionOf, type AttentionTables } from "../attention/lane-table.ts";
import { part } from "../device/copies.ts";
import type { Capabilities, Dispatch, GpuSlice } from "../device/kernel.ts";
import type { Workspace } from "../device/workspace.ts";
import type { BlockIndex } from "../state/layer-buffers.ts";
import { askingQuery } from "./asking-query.ts";
import { blockMeans } from "./block-means.ts";
import { blockScores, chooseBlocks } from "./choose-blocks.ts";

/** What the choices of one layer read and write. */
export interface LayerChoices {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  /** As `rotate-and-store` left them. */
  readonly queries: GpuSlice;
  readonly ring: LayerRing;
  /** Where in the ring the keys without rotation are. */
  readonly rawPlace: number;
  readonly slots: SlotMap;
  /** Mean keys of blocks of `size` tokens from token `from` on, with room for so many blocks. */
  readonly indexOf: (from: number, size: number, blocks: number) => BlockIndex;
}

/**
 * The dispatches that choose blocks for a layer and write their tokens into the lists that attention reads; the blocks
 * themselves, as `chosenBlocks` says.
 */
export function layerChoices(
  shape: AttentionShape,
  capabilities: Capabilities,
  workspace: Workspace,
  work: LayerChoices,
): Dispatch[] {
  const { tables, uploaded, queries, ring, rawPlace, slots, indexOf } = work;
  const { layout } = slots;
  const width = shape.keyHeads * quadsOf(shape);
  const asking = workspace.take("asking query", 16 * width);
  const chosen = chosenBlocks(workspace, tables);
  const lists = sectionOf(tables, uploaded, "lists");
  const dispatches: Dispatch[] = [];
  // Every choice finds its index complete: those of one kind of blocks are made room for, and computed, at once.
  const most = new Map<string, Choice>();
  for (const { choice } of tables.chosen) {
    const key = `${choice.from}/${choice.size}`;
    if (choice.candidates > (most.get(key)?.candidates ?? 0)) most.set(key, choice);
  }
  for (const { from, size, candidates } of most.values()) {
    const index = indexOf(from, size, candidates);
    if (index.known >= candidates) continue;
    const blocks = { first: index.known, end: candidates };
    dispatches.push(
      ...blockMeans(shape, capabilities, { ring, layout, rawPlace, from, size, blocks, means: index.means }),
    );
    index.known = candidates;
  }
  let chosenAt = 0;
  tables.chosen.forEach(({ choice, at: listAt }, which) => {
    const { candidates: blocks, from, size, count } = choice;
    const { means } = indexOf(from, size, blocks);
    const scores = workspace.take("block scores", 4 * blocks);
    dispatches.push(
      askingQuery(shape, { tables, uploaded, queries, which, asking }),
      blockScores({ blocks, width, asking, means, scores }, capabilities),
      chooseBlocks({ choice, layout, scores, chosen, chosenAt, lists, listAt }),
    );
    chosenAt += count;
  });
  return dispatches;
}

/** Where the indices of the chosen blocks are, those of one choice behind those of the one before, as `tables.chosen` has them. */
export function chosenBlocks(workspace: Workspace, { chosen }: AttentionTables): GpuSlice {
  const bytes = 4 * chosen.reduce((sum, { choice }) => sum + choice.count, 0);
  return part(workspace.take("chosen blocks", bytes), 0, bytes);
}
