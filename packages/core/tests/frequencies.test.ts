import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { checkpointFrequencies, isLengthDependent, type RopeConfig, type RopeType } from "@longctx/core";

interface Row {
  readonly name: string;
  readonly headSize: number;
  readonly maxPositions: number;
  readonly length: number;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly inverse: readonly number[];
  readonly amplitude: number;
}

const rows = JSON.parse(readFileSync(new URL("fixtures/frequencies.json", import.meta.url), "utf8")) as Row[];

/** The largest |actual / expected − 1|; transformers computes in float32, so about seven digits agree. */
function relativeError(actual: Float64Array, expected: readonly number[]): number {
  if (actual.length !== expected.length) return Infinity;
  return expected.reduce((largest, value, i) => Math.max(largest, Math.abs(actual[i] / value - 1)), 0);
}

describe("checkpointFrequencies", () => {
  it.each(rows)(
    "is what transformers computes: $name",
    ({ headSize, maxPositions, length, parameters, inverse, amplitude }) => {
      const table = checkpointFrequencies(ropeConfig(parameters, headSize), maxPositions, length);
      expect(relativeError(table.inverse, inverse)).toBeLessThan(1e-6);
      expect(table.amplitude).toBeCloseTo(amplitude, 12);
    },
  );

  it("applies the divisors of a GGUF at every length", () => {
    const table = checkpointFrequencies(
      { type: "default", base: 1e4, rotarySize: 8, frequencyDivisors: [1, 1, 2, 4] },
      2048,
      1,
    );
    expect(relativeError(table.inverse, [1, 0.1, 0.005, 0.00025])).toBeLessThan(1e-6);
  });

  it.each([
    [{ type: "linear", base: 1e4, rotarySize: 8 }, "factor"],
    [
      { type: "llama3", base: 1e4, rotarySize: 8, factor: 8, originalMaxPositions: 64, lowFreqFactor: 1 },
      "high_freq_factor",
    ],
    [
      { type: "longrope", base: 1e4, rotarySize: 8, shortFactors: [1, 1, 1], longFactors: [1, 1, 1, 1] },
      "4 short and long factors",
    ],
  ] satisfies [RopeConfig, string][])("names what a config lacks: %j", (rope, missing) => {
    expect(() => checkpointFrequencies(rope, 64, 1)).toThrow(missing);
  });

  it("says which tables change with the length", () => {
    const types = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"] as const;
    expect(types.filter((type) => isLengthDependent({ type, base: 1e4, rotarySize: 8 }))).toEqual([
      "dynamic",
      "longrope",
    ]);
  });
});

function ropeConfig(given: Readonly<Record<string, unknown>>, headSize: number): RopeConfig {
  const number = (name: string) => (given[name] ?? undefined) as number | undefined;
  return {
    type: given.rope_type as RopeType,
    base: number("rope_theta")!,
    rotarySize: headSize * (number("partial_rotary_factor") ?? 1),
    factor: number("factor"),
    originalMaxPositions: number("original_max_position_embeddings"),
    attentionFactor: number("attention_factor"),
    betaFast: number("beta_fast"),
    betaSlow: number("beta_slow"),
    mscale: number("mscale"),
    mscaleAllDim: number("mscale_all_dim"),
    truncate: given.truncate as boolean | undefined,
    lowFreqFactor: number("low_freq_factor"),
    highFreqFactor: number("high_freq_factor"),
    shortFactors: given.short_factor as number[] | undefined,
    longFactors: given.long_factor as number[] | undefined,
  };
}
