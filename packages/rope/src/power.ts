import { defineMethod, makeTable } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";

/**
 * The power basis: a rotary pair's frequency is multiplied by a power of its place among the pairs, so that slow pairs
 * are slowed the most and the fastest pair is kept. Pal et al.: "Giraffe: Adventures in Expanding Context Lengths in
 * LLMs", 2023 (arXiv:2308.10882). `k`, the exponent, is a number of at least 0.
 * @throws LongctxError "method"
 */
export const power = defineMethod({
  name: "power",
  axes: ["frequencies"],
  summary: "Slow each pair by a power of its place among the pairs; the fastest is kept.",
  definition: "h(i) = θ_i · (1 − i/(d/2))^k",
  paper: "Pal et al. 2023 (Giraffe), arXiv:2308.10882",
  deviations: "Without training here; the authors fine-tuned, and tested k = 0.5.",
  parameters: {
    k: { about: "exponent; 0 changes nothing", unit: "number", default: 0.5, min: 0 },
  },
  create: ({ k }) => ({
    frequencies: ({ rope }) => makeTable(powerFrequencies(rope.base, rope.rotarySize, k)),
  }),
});

/** Returns the frequencies θ_i · (1 − i/(d/2))^k (Pal et al. 2023, arXiv:2308.10882), [d/2], in radians a token. */
export function powerFrequencies(base: number, rotarySize: number, k: number): Float64Array {
  return defaultFrequencies(base, rotarySize).map((frequency, i) => frequency * (1 - (2 * i) / rotarySize) ** k);
}
