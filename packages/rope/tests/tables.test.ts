import { describe, expect, it } from "vitest";
import { compose, defaultFrequencies, makeTable, type Method } from "@longctx/core";
import {
  dynamicNtk,
  interpolation,
  llama3,
  logn,
  none,
  ntk,
  ntkByParts,
  ntkMixed,
  power,
  rerope,
  truncation,
  yarn,
} from "../src/index.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { printed, tableOf, type Head } from "./tables.ts";

const rope = { type: "default", base: 1e4, rotarySize: 8 } as const;
const config = tinyConfig({ headSize: 8, rope, trainedWindow: 2048, maxPositions: 2048 });
const SMALL: Head = { d: 8 };
const table = (method: Method, length = 1, trainedWindow = 2048) => tableOf(method, { d: 8, trainedWindow }, length);

// Computed from the formulas, apart from this code, to seven digits.
describe("tables of d = 8, b = 10000, T = 2048", () => {
  it.each<[Method, number, number[]]>([
    [none(), 9999, [1, 0.1, 0.01, 0.001]],
    [rerope({ window: 512 }), 9999, [1, 0.1, 0.01, 0.001]],
    [logn(), 9999, [1, 0.1, 0.01, 0.001]],
    [interpolation({ factor: 4 }), 1, [0.25, 0.025, 0.0025, 0.00025]],
    [ntk({ factor: 4 }), 1, [1, 0.06299605, 0.003968503, 0.00025]],
    [dynamicNtk({ factor: 2 }), 2048, [1, 0.1, 0.01, 0.001]],
    [dynamicNtk({ factor: 2 }), 4096, [1, 0.06933613, 0.004807499, 0.0003333333]],
    [dynamicNtk({ factor: 4 }), 8192, [1, 0.04252904, 0.001808719, 0.00007692308]],
    [ntkMixed({ factor: 12 }), 1, [0.415386, 0.02281997, 0.001349765, 0.00008333333]],
    [yarn({ factor: 4 }), 1, [1, 0.1, 0.00625, 0.00025]],
    [yarn({ factor: 4, form: "code" }), 1, [1, 0.1, 0.00625, 0.00025]],
    [yarn({ factor: 4, truncate: 0 }), 1, [1, 0.1, 0.005056972, 0.00025]],
    [yarn({ factor: 4, form: "paper" }), 1, [1, 0.1, 0.003046652, 0.00025]],
    [ntkByParts({ factor: 4 }), 1, [1, 0.1, 0.00625, 0.00025]],
    [llama3({ factor: 4 }), 1, [1, 0.1, 0.008148733, 0.00025]],
    [truncation(), 1, [1, 0.1, 0.01, 0.0001917476]],
    [truncation({ high: 0.05, low: 0.002, rho: 0.004 }), 1, [1, 0.1, 0.004, 0]],
    [power(), 1, [1, 0.08660254, 0.007071068, 0.0005]],
    [power({ k: 0.5 }), 1, [1, 0.08660254, 0.007071068, 0.0005]],
  ])("%o at %i", (method, length, expected) => {
    expect(printed(tableOf(method, SMALL, length).inverse)).toEqual(expected);
  });
});

describe("tables of other sizes", () => {
  it("llama3 as it was trained: b = 500000, T = 8192, factor 8", () => {
    const { inverse } = tableOf(llama3({ factor: 8 }), { d: 8, base: 5e5, trainedWindow: 8192 });
    expect(printed(inverse)).toEqual([1, 0.03760603, 5.248462e-4, 6.64787e-6]);
  });

  it("llama3 of 128 channels, factor 10", () => {
    expect(printed(tableOf(llama3({ factor: 10 }), { d: 128 }).inverse.slice(30, 37))).toEqual([
      0.01333521, 0.01073025, 0.00777848, 0.005600897, 0.003999055, 0.002824787, 0.001967544,
    ]);
  });

  it("yarn of 128 channels, factor 10: the ramp begins at pair 16 and ends at 41", () => {
    const { inverse } = tableOf(yarn({ factor: 10 }), { d: 128 });
    const plain = defaultFrequencies(1e4, 128);
    expect(printed(inverse.slice(16, 19), 6)).toEqual([0.1, 0.083479, 0.0695902]);
    expect(printed(inverse.slice(40, 43))).toEqual([4.300698e-4, 2.73842e-4, 2.371374e-4]);
    expect(inverse.findIndex((frequency, i) => frequency !== plain[i])).toBe(17);
    expect(inverse.findIndex((frequency, i) => frequency === plain[i] / 10)).toBe(41);
  });

  it("dynamic ntk of 128 channels, factor 10, 16384 tokens", () => {
    const { inverse } = tableOf(dynamicNtk({ factor: 10 }), { d: 128 }, 16_384);
    expect(printed([inverse[1], inverse[63]])).toEqual([0.8093101, 1.626453e-6]);
  });

  it("truncation of 128 channels keeps 41 pairs, slows 14 and stops 9", () => {
    const { inverse } = tableOf(truncation(), { d: 128 });
    const plain = defaultFrequencies(1e4, 128);
    const rho = (2 * Math.PI) / (16 * 2048);
    expect([...inverse].map((frequency, i) => (frequency === plain[i] ? "θ" : frequency === rho ? "ρ" : frequency)))
      .toEqual([...Array.from({ length: 41 }, () => "θ"), ...Array.from({ length: 14 }, () => "ρ"), ...Array.from({ length: 9 }, () => 0)]); // prettier-ignore
  });

  it("ntk-mixed slows the fastest of 128 channels to 0.896, and with β = 1 pair m by k^(−2m/d)", () => {
    expect(printed(tableOf(ntkMixed({ factor: 12 }), { d: 128 }).inverse.slice(0, 1), 3)).toEqual([0.896]);
    const { inverse } = tableOf(ntkMixed({ factor: 12, beta: 1 }), { d: 128 });
    const expected = [...defaultFrequencies(1e4, 128)].map((theta, i) => theta * 12 ** ((-2 * (i + 1)) / 128));
    expect(printed(inverse, 12)).toEqual(printed(expected, 12));
  });

  it("partly rotated heads: d is the number of rotated channels", () => {
    const head = tinyConfig({ headSize: 64, rope });
    for (const method of [ntk({ factor: 4 }), ntkMixed({ factor: 4 }), power(), truncation(), llama3({ factor: 4 })]) {
      const { inverse } = compose(method).table({ config: head, trainedWindow: 2048 }, 1);
      expect(inverse).toEqual(table(method).inverse);
    }
  });
});

describe("tables", () => {
  it("take the trained window from the context", () => {
    expect(printed(table(yarn({ factor: 4, truncate: 0 }), 1, 4096).inverse)[2]).toBe(0.006556972);
    expect(table(dynamicNtk({ factor: 4 }), 4096, 4096).inverse).toEqual(defaultFrequencies(1e4, 8));
    expect([...table(truncation(), 1, 65_536).inverse]).toEqual([...defaultFrequencies(1e4, 8)]); // 2π/T = 0.000096
  });

  it("replace the checkpoint's own scaling", () => {
    const scaled = { ...config, rope: { ...rope, type: "linear", factor: 8 } as const };
    const { inverse } = compose(interpolation({ factor: 4 })).table({ config: scaled, trainedWindow: 2048 }, 1);
    expect([...inverse]).toEqual([0.25, 0.025, 0.0025, 0.00025]);
    expect(compose(power()).table({ config: scaled, trainedWindow: 2048 }, 1).id).toBe(table(power()).id);
  });

  it.each([[4, 1.138629], [8, 1.207944], [16, 1.277259], [32, 1.346574], [40, 1.368888]])("of yarn with factor %d have the attention factor %d, in both forms", (factor, expected) => {
    for (const form of ["code", "paper"] as const) expect(printed([table(yarn({ factor, form })).amplitude])).toEqual([expected]);
  }); // prettier-ignore

  it("have an attention factor only where it says so", () => {
    expect(table(yarn({ factor: 4, attention_factor: 1.5 })).amplitude).toBe(1.5);
    const without = [
      yarn({ factor: 4, attention_factor: 1 }),
      yarn({ factor: 1 }),
      ...[interpolation, ntk, dynamicNtk, ntkMixed, ntkByParts, llama3].map((make) => make({ factor: 4 })),
      truncation(),
      power(),
    ];
    for (const method of without) {
      expect(table(method, 9999).amplitude).toBe(1);
      expect(method.axes).toEqual(["frequencies"]);
    }
  });

  it("depend on the length only where it says so", () => {
    const context = { config, trainedWindow: 2048 };
    expect(compose(dynamicNtk({ factor: 2 })).lengthDependentOn(context)).toBe(true);
    const fixed = [
      none(),
      logn(),
      truncation(),
      power(),
      yarn({ factor: 4, form: "paper" }),
      ...[interpolation, ntk, ntkMixed, yarn, ntkByParts, llama3].map((make) => make({ factor: 4 })),
    ];
    for (const method of fixed) {
      expect(compose(method).lengthDependentOn(context)).toBe(false);
      expect(table(method, 100_000).id).toBe(table(method, 1).id);
    }
  });
});

describe("methods that are the same by their definitions", () => {
  const HEADS: readonly Head[] = [{ d: 8 }, { d: 128 }, { d: 64, base: 5e5, trainedWindow: 8192 }, { d: 2 }];

  it.each<[string, Method, Method]>([
    ["ntk-by-parts is yarn without temperature", ntkByParts({ factor: 4 }), yarn({ factor: 4, attention_factor: 1 })],
    [
      "llama3 is the paper's ramp with other ends",
      llama3({ factor: 8 }),
      yarn({ factor: 8, form: "paper", beta_fast: 4, beta_slow: 1, attention_factor: 1 }),
    ],
    ["ntk-mixed with β = 0 is interpolation", ntkMixed({ factor: 8, beta: 0 }), interpolation({ factor: 8 })],
    ["dynamic ntk with factor 1 is ntk with n / T", dynamicNtk({ factor: 1 }), ntk({ factor: 9 })],
  ])("%s", (_, a, b) => {
    for (const head of HEADS) {
      const [x, y] = [a, b].map((method) => tableOf(method, head, 9 * (head.trainedWindow ?? 2048)));
      expect(x.amplitude).toBe(y.amplitude);
      expect(printed(x.inverse, 13)).toEqual(printed(y.inverse, 13));
    }
  });

  it.each<[Method]>([
    [interpolation({ factor: 1 })],
    [ntk({ factor: 1 })],
    [ntkMixed({ factor: 1 })],
    [yarn({ factor: 1 })],
    [yarn({ factor: 1, form: "paper" })],
    [ntkByParts({ factor: 1 })],
    [llama3({ factor: 1 })],
    [power({ k: 0 })],
    [truncation({ high: 0 })],
  ])("$spec is RoPE", (method) => {
    for (const head of HEADS) {
      const plain = makeTable(defaultFrequencies(head.base ?? 1e4, head.d));
      expect(printed(tableOf(method, head, 1e6).inverse, 14)).toEqual(printed(plain.inverse, 14));
      expect(tableOf(method, head, 1e6).amplitude).toBe(1);
    }
  });
});
