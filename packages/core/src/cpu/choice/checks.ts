import { LongctxError } from "../../common/errors.ts";
import { choicesOf, isShared, type AttentionPlan, type Choice } from "../../method/plan.ts";
import { massBand } from "../../state/attention-mass.ts";

/**
 * Checks what this device asks of choices: masses of attention are summed over tokens that all queries share, so that
 * tokens which queries or heads choose for themselves lie beyond the band, and cosines are scores of single tokens in one key
 * head.
 * @throws LongctxError "method" where a choice is another one
 */
export function checkFarChoices(plan: AttentionPlan): void {
  const band = massBand(plan);
  for (const choice of choicesOf(plan)) {
    if (choice.scales && (choice.size > 1 || (choice.share ?? "heads") === "heads"))
      throw refused(choice, "scores blocks by cosines, or sums the cosines of several key heads");
    if (band > 0 && !isShared(choice) && nearest(choice) < band)
      throw refused(choice, "lets queries or heads choose tokens for themselves whose attention mass is counted");
  }
}

/** The smallest distance of a candidate from a query. */
function nearest({ each, asking, from, size, candidates }: Choice): number {
  if (each) return each.beyond;
  return candidates === 0 ? Infinity : asking.from - (from + candidates * size - 1);
}

function refused({ id }: Choice, what: string): LongctxError {
  return new LongctxError(
    "method",
    `The choice "${id}" ${what}, which cpu does not compute; use the device reference.`,
  );
}
