import type { Lane } from "../../state/lanes.ts";
import type { Segment } from "../../method/plan.ts";
import { angles, rotation, type Angles } from "../../positions/rotation.ts";
import type { PreparedChunk } from "../graph/chunk.ts";

/** A plan for one token, ready for every layer that has it. */
export interface TokenPlan {
  readonly chunk: PreparedChunk;
  /** The query. */
  readonly token: number;
  /** The token's angles under each rotation, null where it is none. */
  readonly turns: readonly (Angles | null)[];
  readonly temperature: number;
  readonly lanes: readonly TokenLane[];
  /** Slots of all lanes together. */
  readonly width: number;
}

/** A stretch of slots, all of which the token sees. */
export interface TokenLane {
  readonly segment: Segment;
  /** Of the query, by index in the plan. */
  readonly rotation: number;
  /** Which copy of the keys. */
  readonly keys: string;
  readonly from: number;
  readonly count: number;
  /** What the slots hold: the first of consecutive tokens, or each of them. */
  readonly tokens: number | Int32Array;
}

export function tokenPlan(chunk: PreparedChunk, token: number, temperature = 1): TokenPlan {
  const [tile] = chunk.tiles;
  const lanes = (tile?.lanes ?? []).flatMap((lane, i) => {
    const { segment } = lane;
    const common = {
      segment,
      rotation: chunk.shape.tiles[0].lanes[i].rotation,
      keys: rotation(segment.table, segment.keyPosition).id,
    };
    return runsOf(lane).map((run) => ({ ...common, ...run }));
  });
  return {
    chunk,
    token,
    turns: chunk.rotations.map((by) => (by.identity ? null : angles(by, [token], 1))),
    temperature,
    lanes,
    width: lanes.reduce((sum, { count }) => sum + count, 0),
  };
}

function runsOf({ slots, token, tokens }: Lane): Pick<TokenLane, "from" | "count" | "tokens">[] {
  if (!(slots instanceof Int32Array)) return [{ from: slots.from, count: slots.to - slots.from, tokens: token }];
  const runs: { from: number; count: number; tokens: Int32Array }[] = [];
  for (let begin = 0, end = 1; end <= slots.length; end++) {
    if (end < slots.length && slots[end] === slots[end - 1] + 1) continue;
    runs.push({ from: slots[begin], count: end - begin, tokens: tokens!.subarray(begin, end) });
    begin = end;
  }
  return runs;
}
