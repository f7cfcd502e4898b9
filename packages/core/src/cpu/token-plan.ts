import type { Lane } from "../lanes.ts";
import type { PreparedChunk } from "./chunk.ts";
import { angles, rotation, type Angles } from "./rotation.ts";

/** A plan for one token, ready for every layer that has it. */
export interface TokenPlan {
  readonly chunk: PreparedChunk;
  /** The token's angles under each rotation, null where it is none. */
  readonly turns: readonly (Angles | null)[];
  readonly temperature: number;
  readonly lanes: readonly TokenLane[];
  /** Slots of all lanes together. */
  readonly width: number;
}

/** A stretch of slots, all of which the token sees. */
export interface TokenLane {
  /** Of the query, by index in the plan. */
  readonly rotation: number;
  /** Which copy of the keys. */
  readonly keys: string;
  readonly from: number;
  readonly count: number;
}

export function tokenPlan(chunk: PreparedChunk, token: number, temperature = 1): TokenPlan {
  const [tile] = chunk.tiles;
  const lanes = (tile?.lanes ?? []).flatMap((lane, i) => {
    const common = {
      rotation: chunk.shape.tiles[0].lanes[i].rotation,
      keys: rotation(lane.segment.table, lane.segment.keyPosition).id,
    };
    return runsOf(lane.slots).map((run) => ({ ...common, ...run }));
  });
  return {
    chunk,
    turns: chunk.rotations.map((by) => (by.identity ? null : angles(by, [token], 1))),
    temperature,
    lanes,
    width: lanes.reduce((sum, { count }) => sum + count, 0),
  };
}

function runsOf(slots: Lane["slots"]): { from: number; count: number }[] {
  if (!(slots instanceof Int32Array)) return [{ from: slots.from, count: slots.to - slots.from }];
  const runs: { from: number; count: number }[] = [];
  for (const slot of slots) {
    const last = runs.at(-1);
    if (last && last.from + last.count === slot) last.count++;
    else runs.push({ from: slot, count: 1 });
  }
  return runs;
}

/** Rotates one head: pairs (i, i + d/2) of its first d channels. */
export function turn(
  from: Float32Array,
  at: number,
  to: Float32Array,
  place: number,
  size: number,
  by: Angles | null,
  factor = 1,
): void {
  const pairs = by?.cos.length ?? 0;
  for (let i = 0; i < pairs; i++) {
    const a = from[at + i] * factor;
    const b = from[at + pairs + i] * factor;
    to[place + i] = a * by!.cos[i] - b * by!.sin[i];
    to[place + pairs + i] = b * by!.cos[i] + a * by!.sin[i];
  }
  for (let i = 2 * pairs; i < size; i++) to[place + i] = from[at + i] * factor;
}
