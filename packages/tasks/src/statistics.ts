// oxlint-disable-next-line typescript/triple-slash-reference -- jstat has no types, and who imports this file needs them too
/// <reference path="./jstat.d.ts" />
import jStat from "jstat";
import { LongctxError } from "@longctx/core";

export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** z such that a share of `confidence` of the normal distribution is within ±z. */
function z(confidence: number): number {
  return jStat.normal.inv(1 - (1 - confidence) / 2, 0, 1);
}

/**
 * Interval for a share of `right` out of `total`: the score interval, which stays sensible at 0 and 1 and for few
 * trials. Wilson, "Probable inference, the law of succession, and statistical inference", 1927. [0, 1] without trials.
 */
export function wilson(right: number, total: number, confidence = 0.95): Interval {
  if (!(right >= 0 && right <= total))
    throw new LongctxError("argument", `There cannot be ${right} right answers out of ${total}.`);
  if (total === 0) return { low: 0, high: 1 };
  const q = z(confidence);
  const share = right / total;
  const denominator = 1 + q ** 2 / total;
  const centre = (share + q ** 2 / (2 * total)) / denominator;
  const half = (q / denominator) * Math.sqrt((share * (1 - share)) / total + q ** 2 / (4 * total ** 2));
  // At the ends the bound is exact; rounding would leave it beside.
  return { low: right === 0 ? 0 : centre - half, high: right === total ? 1 : centre + half };
}

/** How two methods did on the same prompts. */
export interface PairedCounts {
  readonly both: number;
  readonly onlyFirst: number;
  readonly onlySecond: number;
  readonly neither: number;
}

/**
 * Two-sided p of "both methods are equally often right": the exact binomial test on the prompts that only one of them
 * answers. McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
 */
export function mcnemar({ onlyFirst, onlySecond }: Pick<PairedCounts, "onlyFirst" | "onlySecond">): number {
  const discordant = onlyFirst + onlySecond;
  const fewer = Math.min(onlyFirst, onlySecond);
  if (2 * fewer === discordant) return 1;
  // P(X ≤ k) of the binomial distribution is an incomplete beta function; jstat's own binomial.cdf stops at 10 decimals.
  return Math.min(1, 2 * jStat.ibeta(0.5, discordant - fewer, fewer + 1));
}

/**
 * Difference of the two shares (first − second) and its interval from paired data. Newcombe, "Improved confidence
 * intervals for the difference between binomial proportions based on paired data", 1998, method 10: the Wilson
 * intervals of the two shares, put together with their correlation.
 */
export function newcombePaired(
  { both, onlyFirst, onlySecond, neither }: PairedCounts,
  confidence = 0.95,
): Interval & { readonly difference: number } {
  const total = both + onlyFirst + onlySecond + neither;
  if (total === 0) return { difference: 0, low: -1, high: 1 };
  const [first, second] = [(both + onlyFirst) / total, (both + onlySecond) / total];
  const [a, b] = [wilson(both + onlyFirst, total, confidence), wilson(both + onlySecond, total, confidence)];
  const margins = (both + onlyFirst) * (onlySecond + neither) * (both + onlySecond) * (onlyFirst + neither);
  const product = both * neither - onlyFirst * onlySecond;
  // A positive correlation is corrected for continuity: narrower intervals have to be earned.
  const phi = margins === 0 ? 0 : (product > 0 ? Math.max(product - total / 2, 0) : product) / Math.sqrt(margins);
  const reach = (x: number, y: number): number => Math.sqrt(Math.max(0, x ** 2 - 2 * phi * x * y + y ** 2));
  const difference = first - second;
  return {
    difference,
    low: difference - reach(first - a.low, b.high - second),
    high: difference + reach(a.high - first, second - b.low),
  };
}

/** p-values of several tests, corrected so that the chance of any false finding stays below the level. Holm, 1979. */
export function holm(values: readonly number[]): number[] {
  const order = values.map((_, index) => index).sort((a, b) => values[a] - values[b]);
  const corrected = values.map(() => 1);
  let worst = 0;
  order.forEach((index, rank) => {
    worst = Math.max(worst, Math.min(1, (values.length - rank) * values[index]));
    corrected[index] = worst;
  });
  return corrected;
}
