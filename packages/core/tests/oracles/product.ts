/**
 * A matrix product in float64: `weights` [rows, columns] and `input` [T, columns] give [T, rows]; with an activation,
 * rows 2i and 2i + 1 are gate and up, and the result is [T, rows / 2].
 */
export function productOracle(
  weights: ArrayLike<number>,
  input: ArrayLike<number>,
  { columns, norm, bias, activate, cap }: ProductEpilogue,
): Float64Array {
  const rows = weights.length / columns;
  const tokens = input.length / columns;
  const output = new Float64Array(tokens * rows);
  for (let t = 0; t < tokens; t++) {
    let squares = 0;
    for (let k = 0; k < columns; k++) squares += input[t * columns + k] ** 2;
    const factor = norm ? 1 / Math.sqrt(squares / columns + norm.epsilon) : 1;
    for (let n = 0; n < rows; n++) {
      let sum = bias ? bias[n] : 0;
      for (let k = 0; k < columns; k++)
        sum += weights[n * columns + k] * input[t * columns + k] * factor * (norm ? norm.weight[k] : 1);
      output[t * rows + n] = cap ? cap * Math.tanh(sum / cap) : sum;
    }
  }
  if (!activate) return output;
  return Float64Array.from({ length: output.length / 2 }, (_, i) => activate(output[2 * i]) * output[2 * i + 1]);
}

/** What is computed with the product: RMS norm of the input, bias, activation of gate times up, soft cap of logits. */
export interface ProductEpilogue {
  readonly columns: number;
  readonly norm?: { readonly weight: ArrayLike<number>; readonly epsilon: number };
  readonly bias?: ArrayLike<number>;
  readonly activate?: (x: number) => number;
  readonly cap?: number;
}
