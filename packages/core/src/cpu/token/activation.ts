import type { Activation } from "../../model/config.ts";

/** Activations that no kernel computes, in float64; their results are rounded to float32. */
export const ACTIVATE: Readonly<Record<Exclude<Activation, "silu">, (x: number) => number>> = {
  gelu: (x) => 0.5 * x * complementaryError(-x * Math.SQRT1_2),
  "gelu-tanh": (x) => x / (1 + Math.exp(-Math.sqrt(8 / Math.PI) * x * (1 + 0.044715 * x * x))), // (1 + tanh y)/2 = 1/(1 + e^−2y)
};

/** Where the continued fraction takes over from the series. */
const SERIES_END = 2.5;
/** Levels of the fraction: at `SERIES_END` what they leave out is below 1e-10 of the result. */
const LEVELS = 40;

/** erfc(x) = 1 − erf(x). */
function complementaryError(x: number): number {
  if (x < 0) return 2 - complementaryError(-x);
  if (x < SERIES_END) return 1 - errorSeries(x);
  // e^(−x²)/√π · 1/(x + ½/(x + 1/(x + 1½/(x + …)))) (Abramowitz and Stegun, 7.1.14)
  let divisor = x;
  for (let level = LEVELS; level > 0; level--) divisor = x + level / 2 / divisor;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * divisor);
}

/** erf(x) = 2/√π · Σ (−1)ⁿ x^(2n+1) / (n! (2n+1)), for small x (Abramowitz and Stegun, 7.1.5). */
function errorSeries(x: number): number {
  let power = x;
  let sum = x;
  for (let n = 1; Math.abs(power) > 1e-17; n++) {
    power *= (-x * x) / n;
    sum += power / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
