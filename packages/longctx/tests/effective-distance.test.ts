import { describe, expect, it } from "vitest";
import { distanceMatrix, effectiveDistance, frequencyTable, rotationAngle, type RotationOptions } from "@longctx/core";
import { VECTORS } from "../../core/tests/published-vectors.ts";
import { parseMethod } from "../src/methods.ts";
import { compositions, single, TRAINED_WINDOW, type Case } from "./definitions/cases.ts";
import { define, type Text } from "./definitions/definitions.ts";

/** g(m, 0) … g(m, m). */
function distances(spec: string, m: number, options?: RotationOptions): number[] {
  const method = parseMethod(spec);
  return Array.from({ length: m + 1 }, (_, n) => effectiveDistance(method, m, n, options));
}

const { d8_b1e4: D8, mscale } = VECTORS;

describe("published frequencies: d = 8, b = 10000, T = 2048", () => {
  it.each<[string, number, readonly number[]]>([
    ["none", 1, D8.default],
    ["interpolation:factor=4", 1, D8.pi_s4],
    ["ntk:factor=4", 1, D8.ntk_s4.v],
    ["dynamic-ntk:factor=2", 2048, D8.default],
    ["dynamic-ntk:factor=2", 4096, D8.dyn_L2048_n4096_f2.v],
    ["dynamic-ntk:factor=4", 8192, D8.dyn_L2048_n8192_f4.v],
    ["yarn:factor=4", 1, D8.yarn_s4_L2048.v],
    ["yarn:factor=4,truncate=0", 1, D8.yarn_s4_L2048_notrunc.v],
    ["yarn:factor=4,form=paper", 1, D8.byparts_paper_s4_L2048],
    ["llama3:factor=4", 1, D8.llama3_f4_L2048],
    ["truncation", 1, D8.giraffe_trunc_T2048],
    ["power:k=0.5", 1, D8["giraffe_power_k0.5"]],
    ["ntk-mixed:factor=12", 1, D8.ntk_mixed_k12],
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

  it.each(Object.entries(mscale))("YaRN's attention factor at %s", (factor, expected) => {
    expect(frequencyTable(parseMethod(`yarn:factor=${factor}`)).amplitude).toBeCloseTo(expected, 6);
  });
});

describe("published distances", () => {
  it.each<[string, readonly (number | null)[]]>([
    ["self-extend:window=8,group=4", VECTORS.selfextend_G4_W8_m20],
    ["self-extend:window=8,group=4", VECTORS.selfextend_G4_W8_m21],
    ["self-extend:window=8,group=3", VECTORS.selfextend_G3_W8_m20],
    ["leaky-rerope:window=4,factor=4", VECTORS.leaky_w4_k4_t0_12.toReversed()],
    ["rerope:window=4", VECTORS.rerope_w4_m8],
    ["dual-chunk:chunk=6,cap=10", VECTORS.dca_c10_s6_m9],
    ["dual-chunk:chunk=6,cap=10", VECTORS.dca_c10_s6_m11],
    ["dual-chunk:chunk=6,cap=10", VECTORS.dca_c10_s6_m12],
    ["dual-chunk:chunk=6,cap=10", VECTORS.dca_c10_s6_m17],
    // Kept tokens 0 to 3 and 6 to 8, and the query 9, sit in slots 0 to 7.
    ["streaming:sinks=4,window=4", VECTORS.streaming_s4_w4_m9],
    ["lm-infinite:sinks=2,window=4", VECTORS.lminfinite_s2_w4_m9],
    ["sliding:window=3", [null, null, null, 2, 1, 0]],
  ])("%s: %j", (spec, expected) => {
    expect(distances(spec, expected.length - 1)).toEqual(expected.map((distance) => distance ?? NaN));
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
