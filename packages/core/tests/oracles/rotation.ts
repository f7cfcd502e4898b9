/** One head's channels [D] in float64: RMS norm where one is given, then each pair (i, i + d/2) rotated by its (cos, sin). */
export function rotatedOracle(
  head: ArrayLike<number>,
  angles: ArrayLike<number>,
  norm?: { readonly weights: ArrayLike<number>; readonly epsilon: number },
): Float64Array {
  const pairs = angles.length / 2;
  const input = Float64Array.from(head);
  if (norm) {
    const mean = input.reduce((sum, x) => sum + x * x, 0) / input.length;
    input.forEach((x, i) => (input[i] = (x / Math.sqrt(mean + norm.epsilon)) * norm.weights[i]));
  }
  return input.map((x, i) => {
    if (i < pairs) return x * angles[2 * i] - input[i + pairs] * angles[2 * i + 1];
    if (i < 2 * pairs) return x * angles[2 * (i - pairs)] + input[i - pairs] * angles[2 * (i - pairs) + 1];
    return x;
  });
}
