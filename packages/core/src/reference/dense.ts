import type { Activation } from "../model/config.ts";

/** A weight matrix [outputs, inputs] with its bias, in the float32 that the checkpoint stands for. */
export interface Matrix {
  readonly values: Float32Array;
  readonly outputs: number;
  readonly inputs: number;
  readonly bias?: Float32Array;
}

/** W x + b for every row x of `input` [T, inputs]; sums in float64. Four rows at once, so that a weight is read once for them. */
export function multiply({ values, outputs, inputs, bias }: Matrix, input: Float64Array): Float64Array {
  const rows = input.length / inputs;
  const output = new Float64Array(rows * outputs);
  for (let o = 0; o < outputs; o++) {
    const w = o * inputs;
    const b = bias ? bias[o] : 0;
    let t = 0;
    for (; t + 4 <= rows; t += 4) {
      const x0 = t * inputs;
      const [x1, x2, x3] = [x0 + inputs, x0 + 2 * inputs, x0 + 3 * inputs];
      let [y0, y1, y2, y3] = [0, 0, 0, 0];
      for (let i = 0; i < inputs; i++) {
        const weight = values[w + i];
        y0 += weight * input[x0 + i];
        y1 += weight * input[x1 + i];
        y2 += weight * input[x2 + i];
        y3 += weight * input[x3 + i];
      }
      output[t * outputs + o] = y0 + b;
      output[(t + 1) * outputs + o] = y1 + b;
      output[(t + 2) * outputs + o] = y2 + b;
      output[(t + 3) * outputs + o] = y3 + b;
    }
    for (; t < rows; t++) {
      let y = 0;
      for (let i = 0; i < inputs; i++) y += values[w + i] * input[t * inputs + i];
      output[t * outputs + o] = y + b;
    }
  }
  return output;
}

/** x / √(mean(x²) + ε) · w for every row of the weight's size. */
export function rmsNorm(input: Float64Array, weight: Float32Array, epsilon: number): Float64Array {
  const size = weight.length;
  const output = new Float64Array(input.length);
  for (let row = 0; row < input.length; row += size) {
    let squares = 0;
    for (let i = 0; i < size; i++) squares += input[row + i] ** 2;
    const scale = 1 / Math.sqrt(squares / size + epsilon);
    for (let i = 0; i < size; i++) output[row + i] = input[row + i] * scale * weight[i];
  }
  return output;
}

export function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]);
}

/** c · tanh(x / c); x where there is no cap. */
export function softCapped(x: number, cap: number | undefined): number {
  return cap === undefined ? x : cap * Math.tanh(x / cap);
}

export const ACTIVATE: Readonly<Record<Activation, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  "gelu-tanh": (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

/** erf(x) = 2/√π · e^(−x²) · Σ 2^n x^(2n+1) / (2n+1)!!; every term has the sign of x, so nothing cancels. */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x); // 1 − erf(6) is below 2⁻⁵³
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

export function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** q · k / (|q| |k|), with norms of at least 1e-6. */
export function cosine(q: Float64Array, k: Float64Array): number {
  const norm = (x: Float64Array) => Math.max(Math.sqrt(dot(x, x)), 1e-6);
  return dot(q, k) / (norm(q) * norm(k));
}
