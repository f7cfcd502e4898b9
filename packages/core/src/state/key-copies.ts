import { LongctxError } from "../common/errors.ts";
import type { AttentionPlan } from "../method/plan.ts";
import { RAW, rotation, UNROTATED, type Rotation } from "../positions/rotation.ts";

/** One copy of a layer's keys, by `Rotation.id` in a map; backends add where the copy lies. */
export interface KeyCopy {
  /** null in a restored cache, which knows the id alone until a plan names the rotation again. */
  readonly rotation: Rotation | null;
}

export type KnownCopy<Copy extends KeyCopy> = Copy & { readonly rotation: Rotation };

/** What a layer's copies have to become before a chunk is read under a plan. */
export interface CopyChanges<Copy extends KeyCopy> {
  /** The copy that the new ones are turned from; null where no copy is new, or no tokens are stored yet. */
  readonly source: KnownCopy<Copy> | null;
  /** Rotations that get a copy. */
  readonly made: readonly Rotation[];
  /** Rotations that the plan reads and that stay without a copy, because `worthwhile` refused one. */
  readonly refused: readonly Rotation[];
  /** Ids of the copies that the plan does not read: they go once the new copies are turned. */
  readonly dropped: readonly string[];
  /** The dropped copies without the source: new copies may be written over them. */
  readonly spare: readonly string[];
}

/** The rotations that a plan reads keys under, each id once; `rawKeys` asks for keys without rotation too. */
export function keyRotations(plan: AttentionPlan, rawKeys = false): Rotation[] {
  const found = new Map<string, Rotation>();
  for (const { table, keyPosition } of plan.segments) {
    const by = rotation(table, keyPosition);
    found.set(by.id, by);
  }
  if (rawKeys || plan.segments.length === 0) found.set(UNROTATED.id, UNROTATED);
  return [...found.values()];
}

/** The rotations of restored copies, by id, as far as a plan that reads them names them. */
export function recognised(
  copies: ReadonlyMap<string, KeyCopy>,
  named: readonly Rotation[],
): ReadonlyMap<string, Rotation> {
  const found = new Map<string, Rotation>();
  for (const [id, { rotation: known }] of copies) {
    if (known) continue;
    const by = id === RAW ? UNROTATED : named.find((candidate) => candidate.id === id);
    if (by) found.set(id, by);
  }
  return found;
}

/**
 * The copy that other rotations are made from: keys without rotation, which are exact, else the oldest copy, whose keys
 * are turned by the difference of the angles.
 * @throws LongctxError "argument" when no plan has named the rotation of any restored copy yet
 */
export function sourceOf<Copy extends KeyCopy>(copies: ReadonlyMap<string, Copy>): KnownCopy<Copy> {
  const known = [...copies.values()].filter((copy): copy is KnownCopy<Copy> => copy.rotation !== null);
  const source = known.find((copy) => copy.rotation.identity) ?? known.at(0);
  if (!source)
    throw new LongctxError(
      "argument",
      "The cache keeps its keys under another method's rotation and cannot be read under this one; prefill again.",
    );
  return source;
}

/**
 * Decides which copies a layer gains and loses so that it has those that a plan reads. `filled`: some tokens are stored,
 * so that a new copy has to be turned from another. `worthwhile` may refuse a copy to a backend that turns keys as it
 * reads them. @throws LongctxError "argument" as `sourceOf`
 */
export function copyChanges<Copy extends KeyCopy>(
  copies: ReadonlyMap<string, Copy>,
  wanted: readonly Rotation[],
  filled: boolean,
  worthwhile: (by: Rotation) => boolean = () => true,
): CopyChanges<Copy> {
  const missing = wanted.filter(({ id }) => !copies.has(id));
  const made = missing.filter(worthwhile);
  const source = filled && made.length > 0 ? sourceOf(copies) : null;
  const dropped = [...copies.keys()].filter((id) => !wanted.some((by) => by.id === id));
  return {
    source,
    made,
    refused: missing.filter((by) => !made.includes(by)),
    dropped,
    spare: dropped.filter((id) => copies.get(id) !== source),
  };
}
