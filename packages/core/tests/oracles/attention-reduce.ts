/** The softmax of one head over some of a query's keys, not normalised yet. */
export interface Part {
  readonly largest: number;
  /** Σ 2^(score − largest). */
  readonly total: number;
  /** Σ 2^(score − largest) · value, [D]. */
  readonly sum: ArrayLike<number>;
}

/** The attention output of one head in float64: the parts merged by log-sum-exp, [D]; zeros without any part. */
export function reduceOracle(parts: readonly Part[], headSize: number): Float64Array {
  const largest = Math.max(...parts.map((part) => part.largest));
  const weights = parts.map((part) => 2 ** (part.largest - largest));
  const total = parts.reduce((sum, part, i) => sum + weights[i] * part.total, 0);
  return Float64Array.from({ length: headSize }, (_, d) =>
    parts.reduce((sum, part, i) => sum + (weights[i] * part.sum[d]) / total, 0),
  );
}
