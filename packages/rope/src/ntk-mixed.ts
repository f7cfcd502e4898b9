import { defineMethod, makeTable } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";

/**
 * Mixed NTK scaling: rotary angles are read as the digits of a mixed-radix number, and the scaling factor is spread
 * over the radices, so that fast pairs are slowed less than slow pairs. Su Jianlin: "Transformer upgrade path 11:
 * carrying β-ary positions through", 2023 (kexue.fm/archives/9706).
 * `factor` is a ratio of at least 1, `beta` a number of at least 0.
 * @throws LongctxError "method"
 */
export const ntkMixed = defineMethod({
  name: "ntk-mixed",
  axes: ["frequencies"],
  summary: "Slow every pair, the fast ones least, by an exponential in a power of the pair's number.",
  definition: "h(i) = θ_i · exp(−a·(i+1)^β), a = ln(factor) / (d/2)^β",
  paper: "Su 2023, kexue.fm/archives/9706",
  deviations:
    "Changes the frequencies only: the author's code also scales queries by log-n, which is `ntk-mixed:factor+logn` here. Unlike `ntk` it slows the fastest pair too, so short texts suffer; β = 0 is `interpolation`. The author uses a factor of 12.",
  parameters: {
    factor: {
      about: "extension, k: what the slowest pair is divided by",
      unit: "ratio",
      default: null,
      min: 1,
      example: 4,
    },
    beta: {
      about: "how evenly the factor is spread: 0 divides all pairs alike",
      unit: "number",
      default: 0.75,
      min: 0,
    },
  },
  create: ({ factor, beta }) => ({
    frequencies: ({ rope }) => makeTable(ntkMixedFrequencies(rope.base, rope.rotarySize, factor, beta)),
  }),
});

/**
 * Returns the frequencies θ_i · exp(−a·m^β) with m = i + 1 and a = ln k / (d/2)^β (Su 2023, kexue.fm/archives/9706),
 * [d/2], in radians a token.
 */
export function ntkMixedFrequencies(base: number, rotarySize: number, factor: number, beta: number): Float64Array {
  const pairs = rotarySize / 2;
  // The exponent a·m^β is computed as ln k · (m / (d/2))^β, because (d/2)^β alone overflows for large β.
  return defaultFrequencies(base, rotarySize).map(
    (frequency, i) => frequency * Math.exp(-Math.log(factor) * ((i + 1) / pairs) ** beta),
  );
}
