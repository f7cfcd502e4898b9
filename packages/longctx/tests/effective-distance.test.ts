import { describe, expect, it } from "vitest";
import { distanceMatrix, effectiveDistance, frequencyTable, rotationAngle, type RotationOptions } from "@longctx/core";
import { parseMethod } from "../src/methods.ts";
import { compositions, single, TRAINED_WINDOW, type Case } from "./definitions/cases.ts";
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

/** Distances, angles, visibility and temperatures of a text, as the plan has them and as the definition has them. */
function expectDefinition({ spec, parts }: Case, prompt: number): void {
  const method = parseMethod(spec);
  const text: Text = { base: 1e4, d: 16, trainedWindow: TRAINED_WINDOW, prompt, ownWindow: Infinity };
  const options = { trainedWindow: TRAINED_WINDOW, rope: { base: text.base, rotarySize: text.d }, length: prompt };
  const defined = define(parts, text);
  const { values } = distanceMatrix(method, prompt, options);
  const { inverse, amplitude } = frequencyTable(method, options);
  expect(amplitude).toBeCloseTo(defined.amplitude, 12);
  const angle = (m: number, n: number, i: number) => (defined.visible(m, n) ? defined.angle(m, n, i, 0) : NaN);
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

describe("every angle is that of the method's definition", () => {
  it.each([...single, ...compositions])("$spec", (method) => {
    for (const prompt of [48, 160]) expectDefinition(method, prompt);
  });
});

describe("every composition of one method an axis is refused with a reason, or is what its parts say together", () => {
  const methods = single.filter(({ parts }) => parts.length > 0);
  const nameOf = ({ spec }: Case) => spec.split(":", 1)[0];
  /** One setting of each method: the definitions above go through the others. */
  const each = methods.filter((method, at) => methods.findIndex((other) => nameOf(other) === nameOf(method)) === at);

  it.each(each)("$spec with each of the others", (first) => {
    for (const second of each.slice(each.indexOf(first) + 1)) {
      const pair = together(first, second);
      if (!pair) continue;
      expectDefinition(pair, 48);
      for (const third of each.slice(each.indexOf(second) + 1)) {
        const three = together(pair, third);
        if (three) expectDefinition(three, 48);
      }
    }
  });

  it("comes to hundreds, of pairs and of threes", () => {
    const pairs = each.flatMap((a, i) => each.slice(i + 1).flatMap((b) => together(a, b) ?? []));
    expect(pairs.length).toBeGreaterThan(90);
    // An axis has one method: a frequency method, a distance, a visibility, a temperature.
    const axes = ["yarn:factor=4", "rerope:window=12", "sliding:window=9"];
    expect(pairs.map(({ spec }) => spec)).toEqual(
      expect.arrayContaining([`${axes[0]}+${axes[1]}`, `${axes[0]}+${axes[2]}`, `${axes[1]}+${axes[2]}`]),
    );
  });
});

/** Null where they are refused, with a reason. */
function together(first: Case, second: Case): Case | null {
  const spec = `${first.spec}+${second.spec}`;
  try {
    parseMethod(spec);
  } catch (error) {
    if (/both change the \w+; only one method can|cannot be combined with/.test(String(error))) return null;
    throw error;
  }
  return { spec, parts: [...first.parts, ...second.parts] };
}
