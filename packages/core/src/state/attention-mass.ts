import { LongctxError } from "../common/errors.ts";
import { choicesOf, hasChoices, type AttentionPlan } from "../method/plan.ts";

/** Returns the distances, below this number, at which a plan's choices count attention mass; 0 where none does. */
export function massBand(plan: AttentionPlan): number {
  if (!hasChoices(plan)) return 0;
  const bands = choicesOf(plan).map(({ representative }) =>
    representative?.kind === "salient" ? representative.band : 0,
  );
  return Math.max(0, ...bands);
}

/**
 * Checks that a text whose attention mass was counted up to `counted` tokens can be truncated to `length`.
 * @throws LongctxError "capacity" when the mass would have to be as it was before
 */
export function checkMass(counted: number, length: number): void {
  if (length > 0 && length < counted)
    throw new LongctxError(
      "capacity",
      `The text cannot be truncated to ${length} tokens: the attention mass that salient keys are chosen by already counts ${counted} tokens. Fork before reading what may have to be taken back, or choose blocks by another representative.`,
    );
}
