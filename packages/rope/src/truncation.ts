import { defineMethod, LongctxError, makeTable } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";

/**
 * Truncated basis: pairs that complete a turn within the trained window are kept, slower pairs get one common slow
 * frequency, and the slowest do not turn at all, so that they do not see positions. Pal et al.: "Giraffe: Adventures
 * in Expanding Context Lengths in LLMs", 2023 (arXiv:2308.10882).
 * `low`, `high` and `rho` are in radians a position; the trained window determines those that are not given.
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

/** The bounds of the bands and the frequency of the middle band, radians a position. */
export interface Bands {
  readonly low: number;
  readonly high: number;
  readonly rho: number;
}

/**
 * θ_i where θ_i ≥ high, ρ where low ≤ θ_i < high, 0 where θ_i < low (Pal et al. 2023, arXiv:2308.10882), [d/2], radians
 * a token.
 */
export function truncatedFrequencies(base: number, rotarySize: number, { low, high, rho }: Bands): Float64Array {
  return defaultFrequencies(base, rotarySize).map((frequency) =>
    frequency >= high ? frequency : frequency >= low ? rho : 0,
  );
}

/** Refuses bands that would make a slowed pair faster than one that is kept. @throws LongctxError "method" */
function checkBands({ low, high, rho }: Bands, whence: string): void {
  for (const [name, value] of [
    ["low", low],
    ["rho", rho],
  ] as const) {
    if (value > high)
      throw new LongctxError(
        "method",
        `truncation: ${name} is ${value}, but has to be at most high, ${high}${whence}; give a smaller ${name} or a larger high.`,
      );
  }
}
