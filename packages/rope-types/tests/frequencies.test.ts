import { describe, expect, it } from "vitest";
import {
  defaultFrequencies,
  dynamicAlpha,
  linearFrequencies,
  llama3Frequencies,
  longropeAmplitude,
  longropeFrequencies,
  ntkBase,
  ntkFrequencies,
  yarnAmplitude,
  yarnCorners,
  yarnFrequencies,
  yarnPaperFrequencies,
} from "../src/index.ts";
import { printed, VECTORS } from "../../core/tests/published-vectors.ts";

/** The largest |actual / expected − 1|. */
function relativeError(actual: Float64Array, expected: readonly number[]): number {
  if (actual.length !== expected.length) return Infinity;
  return expected.reduce((largest, value, i) => Math.max(largest, Math.abs(actual[i] / value - 1)), 0);
}

const { d8_b1e4: D8, d8_b5e5, d128_b1e4: D128, mscale, longrope_af_L4096 } = VECTORS;
const entries = (numbers: Readonly<Record<string, number>>) => Object.entries(numbers).map(([key, value]) => [Number(key), value]); // prettier-ignore

describe("frequency functions", () => {
  it("default", () => expect(relativeError(defaultFrequencies(1e4, 8), D8.default)).toBeLessThan(1e-14));
  it("linear", () => expect(relativeError(linearFrequencies(1e4, 8, 4), D8.pi_s4)).toBeLessThan(1e-14));

  it("ntk raises the base, keeps the first frequency and interpolates the last", () => {
    const table = ntkFrequencies(1e4, 8, 4);
    expect(printed(table)).toEqual(D8.ntk_s4.v);
    expect(table[0]).toBe(1);
    expect(table[3]).toBeCloseTo(0.001 / 4, 15);
    expect(printed([ntkBase(1e4, 8, 4)])).toEqual([D8.ntk_s4.base]);
  });

  it("ntk with a single pair changes nothing", () => {
    expect(relativeError(ntkFrequencies(1e4, 2, 4), [1])).toBeLessThan(1e-6);
    expect(ntkBase(1e4, 2, 4)).toBe(1e4);
  });

  it.each([
    [D8.dyn_L2048_n4096_f2, 2, 4096],
    [D8.dyn_L2048_n8192_f4, 4, 8192],
  ])("dynamic ntk: %j", ({ base, v }, factor, length) => {
    const alpha = dynamicAlpha(factor, length, 2048);
    expect(printed(ntkFrequencies(1e4, 8, alpha))).toEqual(v);
    expect(printed([ntkBase(1e4, 8, alpha)])).toEqual([base]);
  });

  it("dynamic ntk of 128 channels, and where it is ntk or nothing", () => {
    const expected = D128.dyn_L2048_n16384_f10;
    const alpha = dynamicAlpha(10, 16_384, 2048);
    const table = ntkFrequencies(1e4, 128, alpha);
    expect(printed([ntkBase(1e4, 128, alpha), table[1], table[63]])).toEqual([expected.base, expected.second, expected.last]); // prettier-ignore
    expect(dynamicAlpha(1, 8192, 2048)).toBe(4);
    expect(dynamicAlpha(4, 2048, 2048)).toBe(1);
  });

  it.each([
    [D8.yarn_s4_L2048, true],
    [D8.yarn_s4_L2048_notrunc, false],
  ])("yarn: %j", ({ low, high, v }, truncate) => {
    expect(printed(yarnFrequencies(1e4, 8, { factor: 4, window: 2048, truncate }))).toEqual(v);
    const corners = yarnCorners(1e4, 8, { window: 2048, truncate });
    expect(printed([corners.low, corners.high])).toEqual([low, high]);
  });

  it("yarn of other windows and sizes", () => {
    const third = yarnFrequencies(1e4, 8, { factor: 4, window: 4096, truncate: false })[2];
    expect(printed([third])).toEqual([D8.yarn_s4_L4096_notrunc_third]);
    const { low, high, from16, from40 } = D128.yarn_s10_L2048;
    const long = yarnFrequencies(1e4, 128, { factor: 10, window: 2048 });
    expect(printed(long.slice(16, 19), 6)).toEqual(from16);
    expect(printed(long.slice(40, 43))).toEqual(from40);
    expect(yarnCorners(1e4, 128, { window: 2048 })).toEqual({ low, high });
    const llama2 = yarnCorners(1e4, 128, { window: 4096, truncate: false });
    expect(printed([llama2.low, llama2.high], 4)).toEqual([D128.yarn_L4096_corners.low, D128.yarn_L4096_corners.high]);
  });

  it("yarn as the paper prints it", () => {
    expect(printed(yarnPaperFrequencies(1e4, 8, { factor: 4, window: 2048 }))).toEqual(D8.byparts_paper_s4_L2048);
  });

  it("longrope divides each frequency by its own divisor", () => {
    expect(printed(longropeFrequencies(1e4, 8, [1, 2, 4, 8]))).toEqual([1, 0.05, 0.0025, 0.000125]);
  });

  it("yarn takes what its authors do where nothing else is said", () => {
    expect(yarnFrequencies(1e4, 128, { factor: 10, window: 2048 })).toEqual(
      yarnFrequencies(1e4, 128, { factor: 10, window: 2048, betaFast: 32, betaSlow: 1, truncate: true }),
    );
  });

  it.each(entries(mscale))("yarn's attention factor at %d is %d", (factor, amplitude) => {
    expect(printed([yarnAmplitude(factor)])).toEqual([amplitude]);
  });

  it.each(entries(longrope_af_L4096))("longrope's attention factor at %d is %d", (factor, amplitude) => {
    expect(printed([longropeAmplitude(factor, 4096)])).toEqual([amplitude]);
  });

  it("llama3", () => {
    const of = (base: number, factor: number, window: number) =>
      printed(llama3Frequencies(base, 8, { factor, window, low: 1, high: 4 }));
    expect(of(1e4, 4, 2048)).toEqual(D8.llama3_f4_L2048);
    expect(of(5e5, 8, 8192)).toEqual(d8_b5e5.llama3_f8_L8192);
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
