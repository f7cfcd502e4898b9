import type { Dispatch } from "./kernel.ts";

/**
 * Multiply-adds of one submission, at most. Windows takes a GPU for hung when one lasts two seconds, and browsers are not
 * patient either: this is 0.4 s for a GPU that does 50·10⁹ a second, and a millisecond for one that does 20·10¹².
 */
export const MOST_WORK = 2e10;

/** Where each submission ends: as many dispatches as stay within `most`, one at least; the last one may have none. */
export function submissionEnds(dispatches: readonly Pick<Dispatch, "work">[], most = MOST_WORK): number[] {
  const ends: number[] = [];
  let sum = 0;
  dispatches.forEach(({ work = 0 }, i) => {
    if (sum > 0 && work > 0 && sum + work > most) {
      ends.push(i);
      sum = 0;
    }
    sum += work;
  });
  return [...ends, dispatches.length];
}

/** Units [from, to) of some that take `work` together, about equal, so that none takes more than `most` where several do. */
export function inSteps(
  units: number,
  work: number,
  most = MOST_WORK,
): { readonly from: number; readonly to: number }[] {
  const steps = Math.max(1, Math.min(units, Math.ceil(work / most)));
  return Array.from({ length: steps }, (_, i) => ({
    from: Math.floor((i * units) / steps),
    to: Math.floor(((i + 1) * units) / steps),
  }));
}
