import { LongctxError } from "../common/errors.ts";
import { choicesOf, hasChoices, needsRawKeys, type AttentionPlan } from "../method/plan.ts";
import { RAW, rotation, UNROTATED, type Rotation } from "../positions/rotation.ts";

/**
 * A copy of a layer's keys under one rotation; a map holds a layer's copies by `Rotation.id`, and each backend adds
 * where the copy's data lies.
 */
export interface KeyCopy {
  /**
   * The rotation of the copy's keys; null in a restored cache, which stores only the rotation's id, until a plan uses
   * that id.
   */
  readonly rotation: Rotation | null;
}

/** A copy of keys whose rotation is known, so that its keys can be rotated further. */
export type KnownCopy<Copy extends KeyCopy> = Copy & { readonly rotation: Rotation };

/** Which key copies a layer has to make and to drop before it reads a chunk under a plan. */
export interface CopyChanges<Copy extends KeyCopy> {
  /** The copy whose keys are rotated into the new copies; null where no copy is new or the cache is empty. */
  readonly source: KnownCopy<Copy> | null;
  /** The rotations for which a new copy is made. */
  readonly made: readonly Rotation[];
  /** The rotations that the plan reads but that get no copy, because `worthwhile` refused it. */
  readonly refused: readonly Rotation[];
  /** The ids of copies that the plan does not read; a backend drops them after it has made the new copies. */
  readonly dropped: readonly string[];
  /** The ids of dropped rotated copies of the keys, without the copy that new ones are rotated from; new copies may overwrite their memory. */
  readonly spare: readonly string[];
}

/** Returns the distinct rotations under which a plan reads keys; `rawKeys` adds the keys without rotation. */
export function keyRotations(plan: AttentionPlan, rawKeys = false): Rotation[] {
  const found = new Map<string, Rotation>();
  const read = plan.gated ? [...plan.segments, ...plan.gated.segments] : plan.segments;
  for (const { table, keyPosition } of read) {
    const by = rotation(table, keyPosition);
    found.set(by.id, by);
  }
  // Choices of tokens score keys at positions of their own; blocks are scored by what is made of raw keys.
  for (const { size, table, keyPosition } of hasChoices(plan) ? choicesOf(plan) : []) {
    const by = rotation(table, keyPosition);
    if (size === 1) found.set(by.id, by);
  }
  if (rawKeys || needsRawKeys(plan) || plan.segments.length === 0) found.set(UNROTATED.id, UNROTATED);
  return [...found.values()];
}

/**
 * A copy of the keys restored from a saved session is known by the id of its rotation only; gives each such copy its
 * rotation where a plan names one with that id.
 */
export function recognise<Copy extends KeyCopy>(copies: Map<string, Copy>, named: readonly Rotation[]): void {
  for (const [id, copy] of copies) {
    if (copy.rotation) continue;
    const by = id === RAW ? UNROTATED : named.find((candidate) => candidate.id === id);
    if (by) copies.set(id, { ...copy, rotation: by });
  }
}

/**
 * Returns the copy from which keys under other rotations are computed: raw keys, which are exact, else the oldest copy,
 * whose keys are turned by the difference of two angles.
 * @throws LongctxError "argument" when all copies are restored and no plan has named their rotations yet
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
 * Decides which key copies a layer makes and drops so that it has the rotations `wanted` by a plan. `filled` says that
 * the cache holds tokens, so that a new copy is computed from another; `worthwhile` lets a backend that rotates keys
 * while reading them refuse a copy.
 * @throws LongctxError "argument" when copies are restored and no plan has named their rotations yet
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
