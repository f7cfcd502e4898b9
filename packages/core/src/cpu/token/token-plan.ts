import type { AttentionPlan, GatedBranch, Segment } from "../../method/plan.ts";
import { angles, rotation, type Angles, type Rotation } from "../../positions/rotation.ts";
import { tileOf, type Lane } from "../../state/lanes.ts";
import type { TokenSlots } from "../../state/slots.ts";
import { apart } from "../choice/found.ts";
import { rotationUses, type KeptKeys, type RotationUse } from "../state/key-copies.ts";

/** What a token's keys are stored under. */
export interface TokenKeys {
  /** Text index of the token. */
  readonly token: number;
  readonly rotations: readonly RotationUse[];
  /** The token's angles under each rotation, null under the identity. */
  readonly turns: readonly (Angles | null)[];
}

/** A plan made concrete for one token; all layers that have the plan share it. */
export interface TokenPlan extends TokenKeys {
  /** Multiplies the scores. */
  readonly temperature: number;
  readonly lanes: readonly TokenLane[];
  /** Slots of all lanes together. */
  readonly width: number;
  /** Segments whose tokens the token's heads have found for themselves. */
  readonly found: readonly TokenList[];
  /** The second softmax under a gate. */
  readonly gated: TokenBranch | null;
  /** `Rotation.id` of keys that have to be in a copy, since lists and choices read them as they are. */
  readonly needed: ReadonlySet<string>;
  /** Where the layer's buffers hold the tokens of lanes and lists; null where the token only writes the state. */
  readonly slots: TokenSlots | null;
}

export interface TokenBranch {
  readonly branch: GatedBranch;
  readonly lists: readonly TokenList[];
}

/** A segment that shows each head a list of its own. */
export type TokenList = Pick<TokenLane, "segment" | "rotation" | "keys">;

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
  kept: KeptKeys,
  turned: Map<string, Angles | null>,
): TokenPlan {
  const { shared, found } = apart(plan);
  const tileLanes = slots ? tileOf(shared, slots, token, 1).lanes : [];
  const branch = slots ? plan.gated : undefined;
  const lists = slots ? found : [];
  const read = [...tileLanes.map(({ segment }) => segment), ...lists, ...(branch?.segments ?? [])];
  const queryRotations = read.map(({ table, queryPosition }) => rotation(table, queryPosition));
  const keys = tokenKeys(token, rotationUses(plan, queryRotations, kept), turned);
  const places = keys.rotations.map((use) => use.rotation.id);
  const listOf = (segment: Segment): TokenList => ({
    segment,
    rotation: places.indexOf(rotation(segment.table, segment.queryPosition).id),
    keys: rotation(segment.table, segment.keyPosition).id,
  });
  const lanes = tileLanes.flatMap((lane) => {
    const common = listOf(lane.segment);
    return runsOf(lane).map((run) => ({ ...common, ...run }));
  });
  const apartLists = [...lists, ...(branch?.segments ?? [])].map(listOf);
  const needed = new Set([...apartLists.map((list) => list.keys), ...(kept.chosenFrom ?? []).map(({ id }) => id)]);
  return {
    ...keys,
    temperature: plan.temperature?.at(token) ?? 1,
    lanes,
    width: lanes.reduce((sum, { count }) => sum + count, 0),
    found: apartLists.slice(0, lists.length),
    gated: branch ? { branch, lists: apartLists.slice(lists.length) } : null,
    needed,
    slots,
  };
}

/**
 * Returns a plan that was made for another layer with the same plan, with the tokens that this layer's heads have found;
 * nothing else in it differs.
 */
export function withFound(made: TokenPlan, plan: AttentionPlan): TokenPlan {
  const { found } = apart(plan);
  const put = (lists: readonly TokenList[], segments: readonly Segment[]) =>
    lists.map((list, i) => ({ ...list, segment: segments[i] }));
  return {
    ...made,
    found: put(made.found, found),
    gated: made.gated && { branch: plan.gated!, lists: put(made.gated.lists, plan.gated!.segments) },
  };
}

/** What a token's keys are stored under before anything attends, so that choices may be made among them. */
export function storedKeys(
  rotations: readonly Rotation[],
  token: number,
  turned: Map<string, Angles | null>,
): TokenKeys {
  return tokenKeys(token, rotations.map((by) => ({ rotation: by, queries: false, keys: true })), turned); // prettier-ignore
}

function tokenKeys(token: number, rotations: readonly RotationUse[], turned: Map<string, Angles | null>): TokenKeys {
  const turns = rotations.map(({ rotation: by }) => {
    if (!turned.has(by.id)) turned.set(by.id, by.identity ? null : angles(by, [token], 1));
    return turned.get(by.id)!;
  });
  return { token, rotations, turns };
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
