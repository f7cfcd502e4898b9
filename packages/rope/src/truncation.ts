import { defineMethod, LongctxError, makeTable } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";

/**
 * The truncated basis: rotary pairs that make a full turn within the trained window keep their frequency, slower pairs
 * share one low frequency, and the slowest pairs get the frequency 0, so that they carry no position. Pal et al.:
 * "Giraffe: Adventures in Expanding Context Lengths in LLMs", 2023 (arXiv:2308.10882).
 * `low`, `high` and `rho` are in radians a position; values that are not given follow from the trained window.
 * @throws LongctxError "method"
 */
export const truncation = defineMethod({
  name: "truncation",
  axes: ["frequencies"],
  summary:
    "Keep pairs that complete a turn in the trained window; slower ones share one rate, the slowest stand still.",
  definition: "h(i) = θ_i where θ_i ≥ high, rho where low ≤ θ_i < high, 0 where θ_i < low",
  paper: "Pal et al. 2023 (Giraffe), arXiv:2308.10882",
  deviations:
    "The trained window comes from the model; the authors' code gives the bands as 2π/T, its eighth and its sixteenth. Without training here; the authors fine-tuned.",
  parameters: {
    low: { about: "slower pairs stand still", unit: "radians", default: "high/8", min: 0 },
    high: { about: "pairs at least as fast are kept; radians a position", unit: "radians", default: "2π/T", min: 0 },
    rho: { about: "frequency of the pairs between", unit: "radians", default: "high/16", min: 0 },
  },
  create: (given) => {
    const bandsOf = (trainedWindow: number): Bands => {
      const { high = (2 * Math.PI) / trainedWindow } = given;
      const { low = high / 8, rho = high / 16 } = given;
      return { low, high, rho };
    };
    if (given.high !== undefined) checkBands(bandsOf(1), "");
    return {
      check: ({ trainedWindow }) =>
        checkBands(
          bandsOf(trainedWindow),
          given.high === undefined ? ` (2π over the trained window ${trainedWindow})` : "",
        ),
      frequencies: ({ rope, trainedWindow }) =>
        makeTable(truncatedFrequencies(rope.base, rope.rotarySize, bandsOf(trainedWindow))),
    };
  },
});

/**
 * The bounds `low` and `high` of the frequency bands and the common frequency `rho` of the middle band, in radians a
 * position.
 */
export interface Bands {
  readonly low: number;
  readonly high: number;
  readonly rho: number;
}

/**
 * Returns the frequencies θ_i where θ_i ≥ high, ρ where low ≤ θ_i < high, and 0 where θ_i < low (Pal et al. 2023,
 * arXiv:2308.10882), [d/2], in radians a token.
 */
export function truncatedFrequencies(base: number, rotarySize: number, { low, high, rho }: Bands): Float64Array {
  return defaultFrequencies(base, rotarySize).map((frequency) =>
    frequency >= high ? frequency : frequency >= low ? rho : 0,
  );
}

/** Refuses bands in which a slowed pair would turn faster than a kept pair. @throws LongctxError "method" */
function checkBands({ low, high, rho }: Bands, origin: string): void {
  for (const [name, value] of [
    ["low", low],
    ["rho", rho],
  ] as const) {
    if (value > high)
      throw new LongctxError(
        "method",
        `truncation: ${name} is ${value}, but has to be at most high, ${high}${origin}; give a smaller ${name} or a larger high.`,
      );
  }
}
