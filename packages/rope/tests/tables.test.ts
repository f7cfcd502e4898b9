import { describe, expect, it } from "vitest";
import { compose, defaultFrequencies, type Method } from "@longctx/core";
import { dynamicNtk, interpolation, none, ntk, rerope, yarn } from "../src/index.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";

const rope = { type: "default", base: 1e4, rotarySize: 8 } as const;
const config = tinyConfig({ headSize: 8, rope, trainedWindow: 2048, maxPositions: 2048 });

function table(method: Method, length = 1, trainedWindow = 2048) {
  return compose(method).table({ config, trainedWindow }, length);
}

describe("tables of d = 8, b = 10000, T = 2048", () => {
  it.each<[Method, number, number[]]>([
    [none(), 9999, [1, 0.1, 0.01, 0.001]],
    [rerope({ window: 512 }), 9999, [1, 0.1, 0.01, 0.001]],
    [interpolation({ factor: 4 }), 1, [0.25, 0.025, 0.0025, 0.00025]],
    [ntk({ factor: 4 }), 1, [1, 0.06299605, 0.003968503, 0.00025]],
    [dynamicNtk({ factor: 2 }), 2048, [1, 0.1, 0.01, 0.001]],
    [dynamicNtk({ factor: 2 }), 4096, [1, 0.06933613, 0.004807499, 0.0003333333]],
    [dynamicNtk({ factor: 4 }), 8192, [1, 0.04252904, 0.001808719, 0.00007692308]],
    [yarn({ factor: 4 }), 1, [1, 0.1, 0.00625, 0.00025]],
    [yarn({ factor: 4, truncate: 0 }), 1, [1, 0.1, 0.005056972, 0.00025]],
  ])("%o at %i", (method, length, expected) => {
    const { inverse } = table(method, length);
    expected.forEach((value, i) => expect(Math.abs(inverse[i] / value - 1)).toBeLessThan(2e-7));
  });

  it("dynamic NTK with factor 1 is NTK with n / T", () => {
    expect(table(dynamicNtk({ factor: 1 }), 8192).inverse).toEqual(table(ntk({ factor: 4 })).inverse);
  });

  it("takes the trained window from the context", () => {
    expect(table(yarn({ factor: 4, truncate: 0 }), 1, 4096).inverse[2]).toBeCloseTo(0.006556972, 9);
    expect(table(dynamicNtk({ factor: 4 }), 4096, 4096).inverse).toEqual(defaultFrequencies(1e4, 8));
  });

  it("replaces the checkpoint's own scaling", () => {
    const scaled = { ...config, rope: { ...rope, type: "linear", factor: 8 } as const };
    const { inverse } = compose(interpolation({ factor: 4 })).table({ config: scaled, trainedWindow: 2048 }, 1);
    expect([...inverse]).toEqual([0.25, 0.025, 0.0025, 0.00025]);
  });

  it("has YaRN's attention factor, or the one given", () => {
    expect(table(yarn({ factor: 4 })).amplitude).toBeCloseTo(1.138629, 6);
    expect(table(yarn({ factor: 16 })).amplitude).toBeCloseTo(1.277259, 6);
    expect(table(yarn({ factor: 4, attention_factor: 1 })).amplitude).toBe(1);
    expect(table(yarn({ factor: 1 })).amplitude).toBe(1);
    expect(table(interpolation({ factor: 4 })).amplitude).toBe(1);
  });

  it("depends on the length only where it says so", () => {
    const context = { config, trainedWindow: 2048 };
    expect(compose(dynamicNtk({ factor: 2 })).lengthDependentOn(context)).toBe(true);
    for (const method of [none(), interpolation({ factor: 4 }), ntk({ factor: 4 }), yarn({ factor: 4 })]) {
      expect(compose(method).lengthDependentOn(context)).toBe(false);
      expect(table(method, 100_000).inverse).toEqual(table(method, 1).inverse);
    }
  });
});
