import {
  choicesOf,
  hasChoices,
  withChosen,
  type AttentionPlan,
  type Choice,
  type Segment,
  type Interval,
} from "../../method/plan.ts";
import { checkShared } from "../../backend/forward-checks.ts";
import type { ModelConfig } from "../../model/config.ts";
import { computeRow, emptyRow } from "../../positions/angle-rows.ts";
import type { CpuState } from "./cpu-state.ts";
import type { KeyCopies } from "./key-copies.ts";

/** A chunk in a layer whose queries are known: q, k and v side by side, without rotation, [T, (H + 2K) · D]. */
export interface AskingChunk {
  readonly first: number;
  readonly count: number;
  readonly projected: Float32Array;
}

/**
 * The plan of a layer with the tokens of the chosen blocks in place of its choices: as lists, or as ranges of consecutive
 * tokens, a segment each. Blocks that became candidates are indexed first.
 */
export function choose(
  plan: AttentionPlan,
  state: CpuState,
  layer: number,
  copies: KeyCopies,
  chunk: AskingChunk,
  as: "lists" | "ranges",
): AttentionPlan {
  if (!hasChoices(plan)) return plan;
  checkShared(plan, "cpu");
  const taken = new Map<string, number[]>();
  for (const choice of choicesOf(plan)) {
    const { id, candidates, count } = choice;
    if (candidates === 0 || count === 0) {
      taken.set(id, []);
      continue;
    }
    const index = state.index(layer, choice);
    const { slots, cold } = state.layers[layer];
    if (cold) index.extend(candidates, cold.keyRows, cold.keyRows);
    else index.extend(candidates, slots, copies.raw(state, layer, chunk.first));
    taken.set(id, index.best(askingOf(choice, state.backend.config, chunk), candidates, count));
  }
  if (as === "lists") return withChosen(plan, ({ id }) => taken.get(id)!);
  const segments = plan.segments.flatMap((segment): Segment[] => {
    if (!("choice" in segment.tokens)) return [segment];
    const { choice, ranks } = segment.tokens;
    return rangesOf(choice, taken.get(choice.id)!.slice(ranks.from, ranks.to)).map((tokens) => ({
      ...segment,
      tokens,
    }));
  });
  return { ...plan, segments };
}

/** The tokens of some blocks, ascending, in ranges as long as possible. */
function rangesOf({ from, size }: Choice, blocks: readonly number[]): Interval[] {
  const ranges: { from: number; to: number }[] = [];
  for (const block of blocks) {
    const begin = from + block * size;
    const last = ranges.at(-1);
    if (last?.to === begin) last.to += size;
    else ranges.push({ from: begin, to: begin + size });
  }
  return ranges;
}

/**
 * What a choice asks each mean key, [K, D]: the mean of the asking queries, turned and summed over the query heads that
 * share a key head, since a block's score is the sum over all query heads.
 */
function askingOf(
  { asking, table, queryPosition }: Choice,
  { queryHeads, keyHeads, headSize }: ModelConfig,
  { first, count, projected }: AskingChunk,
): Float64Array {
  const stride = (queryHeads + 2 * keyHeads) * headSize;
  const group = queryHeads / keyHeads;
  const from = Math.max(0, asking.from - first);
  const to = Math.min(count, asking.to - first);
  const summed = new Float64Array(keyHeads * headSize);
  for (let row = from; row < to; row++) {
    for (let head = 0; head < queryHeads; head++) {
      const query = row * stride + head * headSize;
      const sum = Math.floor(head / group) * headSize;
      for (let i = 0; i < headSize; i++) summed[sum + i] += projected[query + i] / (to - from);
    }
  }
  // Turning is linear, so the sum is turned once for all heads of a group. Keys at position 0 have the amplitude too.
  const pairs = table.inverse.length;
  const { cos, sin } = emptyRow(pairs);
  computeRow(table.inverse, queryPosition.at(asking.from), { cos, sin });
  const factor = table.amplitude ** 2;
  for (let at = 0; at < summed.length; at += headSize) {
    for (let i = 0; i < pairs; i++) {
      const [a, b] = [summed[at + i], summed[at + pairs + i]];
      summed[at + i] = (a * cos[i] - b * sin[i]) * factor;
      summed[at + pairs + i] = (b * cos[i] + a * sin[i]) * factor;
    }
  }
  return summed;
}
