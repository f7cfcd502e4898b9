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

/** Returns for each place the sum over `count` places around it; there is nothing beyond the ends. */
export function sumOfNeighbours(values: Float64Array, count: number): Float64Array {
  const back = (count - 1) >> 1;
  return values.map((_, at) => {
    let sum = 0;
    for (let i = Math.max(0, at - back); i < Math.min(values.length, at - back + count); i++) sum += values[i];
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
