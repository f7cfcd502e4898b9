import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  checkpointFrequencies,
  defaultFrequencies,
  dynamicAlpha,
  isLengthDependent,
  linearFrequencies,
  llama3Frequencies,
  longropeAmplitude,
  ntkFrequencies,
  yarnAmplitude,
  yarnFrequencies,
  type RopeConfig,
  type RopeType,
} from "@longctx/core";

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

// d = 8, b = 10⁴ throughout; from the formulas, computed independently.
describe("frequency functions", () => {
  it("default", () => expect(relativeError(defaultFrequencies(1e4, 8), [1, 0.1, 0.01, 0.001])).toBeLessThan(1e-14));
  it("linear", () =>
    expect(relativeError(linearFrequencies(1e4, 8, 4), [0.25, 0.025, 0.0025, 0.00025])).toBeLessThan(1e-14));

  it("ntk keeps the first frequency and interpolates the last", () => {
    const table = ntkFrequencies(1e4, 8, 4);
    expect(relativeError(table, [1, 0.06299605, 0.003968503, 0.00025])).toBeLessThan(2e-7);
    expect(table[0]).toBe(1);
    expect(table[3]).toBeCloseTo(0.001 / 4, 15);
  });

  it("ntk with a single pair changes nothing", () =>
    expect(relativeError(ntkFrequencies(1e4, 2, 4), [1])).toBeLessThan(1e-6));

  it("dynamic ntk", () => {
    expect(
      relativeError(ntkFrequencies(1e4, 8, dynamicAlpha(2, 4096, 2048)), [1, 0.06933613, 0.004807499, 0.0003333333]),
    ).toBeLessThan(2e-7);
    expect(
      relativeError(ntkFrequencies(1e4, 8, dynamicAlpha(4, 8192, 2048)), [1, 0.04252904, 0.001808719, 0.00007692308]),
    ).toBeLessThan(2e-7);
    expect(dynamicAlpha(1, 8192, 2048)).toBe(4);
    expect(dynamicAlpha(4, 2048, 2048)).toBe(1);
  });

  it("yarn", () => {
    expect(
      relativeError(yarnFrequencies(1e4, 8, { factor: 4, window: 2048 }), [1, 0.1, 0.00625, 0.00025]),
    ).toBeLessThan(1e-12);
    expect(
      relativeError(
        yarnFrequencies(1e4, 8, { factor: 4, window: 2048, truncate: false }),
        [1, 0.1, 0.005056972, 0.00025],
      ),
    ).toBeLessThan(2e-7);
    expect(
      relativeError(yarnFrequencies(1e4, 8, { factor: 4, window: 4096, truncate: false }).slice(2, 3), [0.006556972]),
    ).toBeLessThan(2e-7);
    const long = yarnFrequencies(1e4, 128, { factor: 10, window: 2048 });
    expect(relativeError(long.slice(16, 19), [0.1, 0.083479, 0.0695902])).toBeLessThan(2e-6);
    expect(relativeError(long.slice(40, 43), [4.300698e-4, 2.73842e-4, 2.371374e-4])).toBeLessThan(2e-6);
  });

  it.each([[4, 1.138629], [8, 1.207944], [16, 1.277259], [32, 1.346574], [40, 1.368888]])("yarn's attention factor at %d is %d", (factor, amplitude) => {
    expect(yarnAmplitude(factor)).toBeCloseTo(amplitude, 6);
  }); // prettier-ignore

  it.each([[16, 1.154701], [32, 1.190238]])("longrope's attention factor at %d is %d", (factor, amplitude) => {
    expect(longropeAmplitude(factor, 4096)).toBeCloseTo(amplitude, 6);
  }); // prettier-ignore

  it("llama3", () => {
    expect(
      relativeError(
        llama3Frequencies(1e4, 8, { factor: 4, window: 2048, low: 1, high: 4 }),
        [1, 0.1, 0.008148733, 0.00025],
      ),
    ).toBeLessThan(2e-7);
    expect(
      relativeError(
        llama3Frequencies(5e5, 8, { factor: 8, window: 8192, low: 1, high: 4 }),
        [1, 0.03760603, 5.248462e-4, 6.64787e-6],
      ),
    ).toBeLessThan(2e-7);
  });

  it("a factor of 1 is the default table", () => {
    const table = [...defaultFrequencies(1e4, 8)];
    expect(relativeError(linearFrequencies(1e4, 8, 1), table)).toBeLessThan(1e-15);
    expect(relativeError(ntkFrequencies(1e4, 8, 1), table)).toBeLessThan(1e-15);
    expect(relativeError(yarnFrequencies(1e4, 8, { factor: 1, window: 2048 }), table)).toBeLessThan(1e-15);
    expect(relativeError(llama3Frequencies(1e4, 8, { factor: 1, window: 2048, low: 1, high: 4 }), table)).toBeLessThan(
      1e-15,
    );
    expect(yarnAmplitude(1)).toBe(1);
    expect(longropeAmplitude(1, 4096)).toBe(1);
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
