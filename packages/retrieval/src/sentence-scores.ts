import type { CapturedAttention, Interval } from "@longctx/core";

/**
 * Sums captured attention over its rows: returns [captured heads, text.to − text.from], the attention that all captured
 * queries together pay to each token of `text`, for each head in the order of `heads` of the first entry.
 */
export function attentionToText(captured: readonly CapturedAttention[], text: Interval): Float64Array {
  const size = text.to - text.from;
  const sums = new Float64Array(captured[0].heads.length * size);
  for (const { count, tokens, heads, weights } of captured)
    for (let head = 0; head < heads.length; head++)
      for (let row = 0; row < count; row++) {
        const at = (head * count + row) * tokens + text.from;
        const visible = Math.min(size, tokens - text.from);
        for (let i = 0; i < visible; i++) sums[head * size + i] += weights[at + i];
      }
  return sums;
}

/**
 * Replaces each value by the sum of `phrase` neighbouring values around it, itself among them; an even `phrase` has one
 * more on the left. Values beyond the ends count as 0. Ye, Wang, Wang 2025, arXiv:2502.12962, equation 4.
 */
export function phraseSums(values: Float64Array, phrase: number): Float64Array {
  const left = phrase >> 1;
  const right = phrase - 1 - left;
  return values.map((_, i) => {
    let sum = 0;
    for (let j = Math.max(0, i - left); j <= Math.min(values.length - 1, i + right); j++) sum += values[j];
    return sum;
  });
}

/** Returns the largest value of each range; ranges are not empty. */
export function largestOf(values: ArrayLike<number>, ranges: readonly Interval[]): Float64Array {
  return Float64Array.from(ranges, ({ from, to }) => {
    let largest = -Infinity;
    for (let i = from; i < to; i++) if (values[i] > largest) largest = values[i];
    return largest;
  });
}
