import { describe, expect, it } from "vitest";
import { distanceMatrix, effectiveDistance, frequencyTable, rotationAngle, type RotationOptions } from "@longctx/core";
import { parseMethod } from "../src/methods.ts";
import { compositions, single, TRAINED_WINDOW } from "./definitions/cases.ts";
import { define, type Text } from "./definitions/definitions.ts";

/** g(m, 0) … g(m, m). */
function distances(spec: string, m: number, options?: RotationOptions): number[] {
  const method = parseMethod(spec);
  return Array.from({ length: m + 1 }, (_, n) => effectiveDistance(method, m, n, options));
}

describe("published frequencies: d = 8, b = 10000, T = 2048", () => {
  it.each([
    ["none", 1, [1, 0.1, 0.01, 0.001]],
    ["interpolation:factor=4", 1, [0.25, 0.025, 0.0025, 0.00025]],
    ["ntk:factor=4", 1, [1, 0.06299605, 0.003968503, 0.00025]],
    ["dynamic-ntk:factor=2", 2048, [1, 0.1, 0.01, 0.001]],
    ["dynamic-ntk:factor=2", 4096, [1, 0.06933613, 0.004807499, 0.0003333333]],
    ["dynamic-ntk:factor=4", 8192, [1, 0.04252904, 0.001808719, 0.00007692308]],
    ["yarn:factor=4", 1, [1, 0.1, 0.00625, 0.00025]],
    ["yarn:factor=4,truncate=0", 1, [1, 0.1, 0.005056972, 0.00025]],
    ["yarn:factor=4,form=paper", 1, [1, 0.1, 0.003046652, 0.00025]],
    ["llama3:factor=4", 1, [1, 0.1, 0.008148733, 0.00025]],
    ["truncation", 1, [1, 0.1, 0.01, 0.0001917476]],
    ["power:k=0.5", 1, [1, 0.08660254, 0.007071068, 0.0005]],
    ["ntk-mixed:factor=12", 1, [0.415386, 0.02281997, 0.001349765, 0.00008333333]],
  ])("%s at %i tokens", (spec, length, expected) => {
    const method = parseMethod(spec);
    const options = { trainedWindow: 2048, rope: { base: 1e4, rotarySize: 8 } };
    const { inverse } = frequencyTable(method, { ...options, length });
    expected.forEach((value, i) => {
      expect(inverse[i] / value).toBeCloseTo(1, 6);
      expect(rotationAngle(method, 40, 33, i, { ...options, length: Math.max(41, length) }) / (7 * value)).toBeCloseTo(
        1,
        6,
      );
    });
  });

  it.each([
    [4, 1.138629],
    [16, 1.277259],
    [32, 1.346574],
  ])("YaRN's attention factor at %i", (factor, expected) => {
    expect(frequencyTable(parseMethod(`yarn:factor=${factor}`)).amplitude).toBeCloseTo(expected, 6);
  });
});

describe("published distances", () => {
  it.each([
    ["self-extend:window=8,group=4", "11 11 11 11 10 10 10 10 9 9 9 9 8 7 6 5 4 3 2 1 0"],
    ["self-extend:window=8,group=4", "11 11 11 11 10 10 10 10 9 9 9 9 8 8 7 6 5 4 3 2 1 0"],
    ["self-extend:window=8,group=3", "12 12 12 11 11 11 10 10 10 9 9 9 8 7 6 5 4 3 2 1 0"],
    ["leaky-rerope:window=4,factor=4", "6 5.75 5.5 5.25 5 4.75 4.5 4.25 4 3 2 1 0"],
    ["rerope:window=4", "4 4 4 4 4 3 2 1 0"],
    ["dual-chunk:chunk=6,cap=10", "9 8 7 6 5 4 5 4 3 2 1 0"],
    ["dual-chunk:chunk=6,cap=10", "9 8 7 6 5 4 6 5 4 3 2 1 0"],
    ["dual-chunk:chunk=6,cap=10", "9 8 7 6 5 4 9 8 7 6 5 4 5 4 3 2 1 0"],
    // Kept tokens 0 to 3 and 6 to 8, and the query 9, sit in slots 0 to 7.
    ["streaming:sinks=4,window=4", "7 6 5 4 NaN NaN 3 2 1 0"],
    ["lm-infinite:sinks=2,window=4", "4 4 NaN NaN NaN NaN 3 2 1 0"],
    ["sliding:window=3", "NaN NaN NaN 2 1 0"],
  ])("%s: %s", (spec, line) => {
    const expected = line.split(" ").map(Number);
    expect(distances(spec, expected.length - 1)).toEqual(expected);
  });

  it("parallel windows begin again, and the task follows the longest", () => {
    // A prompt of 11: two windows of 3 and a task of 5.
    const options = { length: 11 };
    expect(distances("parallel:windows=2", 2, options)).toEqual([2, 1, 0]);
    expect(distances("parallel:windows=2", 4, options)).toEqual([NaN, NaN, NaN, 1, 0]);
    expect(distances("parallel:windows=2", 7, options)).toEqual([4, 3, 2, 4, 3, 2, 1, 0]);
  });

  it("a prefix sees ahead at negative distances", () => {
    const { values } = distanceMatrix(parseMethod("prefix:length=3"), 4);
    expect([...values]).toEqual([0, -1, -2, NaN, 1, 0, -1, NaN, 2, 1, 0, NaN, 3, 2, 1, 0]);
  });
});

describe("every angle is that of the method's definition", () => {
  it.each([...single, ...compositions])("$spec", ({ spec, parts }) => {
    const method = parseMethod(spec);
    for (const prompt of [48, 160]) {
      const text: Text = { base: 1e4, d: 16, trainedWindow: TRAINED_WINDOW, prompt, ownWindow: Infinity };
      const options = { trainedWindow: TRAINED_WINDOW, rope: { base: text.base, rotarySize: text.d }, length: prompt };
      const defined = define(parts, text);
      const { values } = distanceMatrix(method, prompt, options);
      const { inverse, amplitude } = frequencyTable(method, options);
      expect(amplitude).toBeCloseTo(defined.amplitude, 12);
      const angle = (m: number, n: number, i: number) => (defined.visible(m, n) ? defined.angle(m, n, i) : NaN);
      const differs = (a: number, b: number) => Number.isNaN(a) !== Number.isNaN(b) || Math.abs(a - b) > 1e-9;
      const wrong: string[] = [];
      for (let m = 0; m < prompt; m++)
        for (let n = 0; n < prompt; n++)
          for (let i = 0; i < inverse.length; i++)
            if (differs(values[m * prompt + n] * inverse[i], angle(m, n, i))) wrong.push(`${m} ${n} ${i}`);
      expect(wrong).toEqual([]);
      const [m, n, i] = [prompt - 1, 7, 2];
      expect(differs(rotationAngle(method, m, n, i, options), angle(m, n, i))).toBe(false);
    }
  });
});
