import type { AttentionPlan, Segment } from "../../method/plan.ts";
import { angles, rotation, type Angles } from "../../positions/rotation.ts";
import { tileOf, type Lane } from "../../state/lanes.ts";
import type { TokenSlots } from "../../state/slots.ts";
import { rotationUses, type RotationUse } from "../state/key-copies.ts";

/** A plan made concrete for one token; all layers that have the plan share it. */
export interface TokenPlan {
  /** Text index of the query. */
  readonly token: number;
  readonly rotations: readonly RotationUse[];
  /** The token's angles under each rotation, null under the identity. */
  readonly turns: readonly (Angles | null)[];
  /** Multiplies the scores. */
  readonly temperature: number;
  readonly lanes: readonly TokenLane[];
  /** Slots of all lanes together. */
  readonly width: number;
}

/** A stretch of slots, all of which the token sees. */
export interface TokenLane {
  readonly segment: Segment;
  /** The query's rotation, by index in the plan. */
  readonly rotation: number;
  /** `Rotation.id` of the copy of the keys that the lane reads. */
  readonly keys: string;
  readonly from: number;
  readonly count: number;
  /** The tokens in the slots: the first of consecutive ones, or each of them. */
  readonly tokens: number | Int32Array;
}

/** `slots` is null where the token only writes the state; `turned` keeps the token's angles by `Rotation.id`. */
export function tokenPlan(
  plan: AttentionPlan,
  slots: TokenSlots | null,
  token: number,
  rawKeys: boolean,
  turned: Map<string, Angles | null>,
): TokenPlan {
  const tileLanes = slots ? tileOf(plan, slots, token, 1).lanes : [];
  const queryRotations = tileLanes.map(({ segment }) => rotation(segment.table, segment.queryPosition));
  const rotations = rotationUses(plan, queryRotations, rawKeys);
  const lanes = tileLanes.flatMap((lane, i) => {
    const { segment } = lane;
    const common = {
      segment,
      rotation: rotations.findIndex((use) => use.rotation.id === queryRotations[i].id),
      keys: rotation(segment.table, segment.keyPosition).id,
    };
    return runsOf(lane).map((run) => ({ ...common, ...run }));
  });
  return {
    token,
    rotations,
    turns: rotations.map(({ rotation: by }) => {
      if (!turned.has(by.id)) turned.set(by.id, by.identity ? null : angles(by, [token], 1));
      return turned.get(by.id)!;
    }),
    temperature: plan.temperature?.at(token) ?? 1,
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
