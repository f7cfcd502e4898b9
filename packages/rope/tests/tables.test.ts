import { describe, expect, it } from "vitest";
import { compose, makeTable, type Method } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";
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
import { printed, VECTORS } from "../../core/tests/published-vectors.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { tableOf, type Head } from "./tables.ts";

const rope = { type: "default", base: 1e4, rotarySize: 8 } as const;
const config = tinyConfig({ headSize: 8, rope, trainedWindow: 2048, maxPositions: 2048 });
const SMALL: Head = { d: 8 };
const table = (method: Method, length = 1, trainedWindow = 2048) => tableOf(method, { d: 8, trainedWindow }, length);

const { d8_b1e4: D8, d8_b5e5, d128_b1e4: D128 } = VECTORS;

describe("tables of d = 8, b = 10000, T = 2048", () => {
  it.each<[Method, number, number[]]>([
    [none(), 9999, D8.default],
    [rerope({ window: 512 }), 9999, D8.default],
    [logn(), 9999, D8.default],
    [interpolation({ factor: 4 }), 1, D8.pi_s4],
    [ntk({ factor: 4 }), 1, D8.ntk_s4.v],
    [dynamicNtk({ factor: 2 }), 2048, D8.default],
    [dynamicNtk({ factor: 2 }), 4096, D8.dyn_L2048_n4096_f2.v],
    [dynamicNtk({ factor: 4 }), 8192, D8.dyn_L2048_n8192_f4.v],
    [dynamicNtk({ factor: 1 }), 8192, D8.ntk_s4.v],
    [ntkMixed({ factor: 12 }), 1, D8.ntk_mixed_k12],
    [yarn({ factor: 4 }), 1, D8.yarn_s4_L2048.v],
    [yarn({ factor: 4, form: "code" }), 1, D8.yarn_s4_L2048.v],
    [yarn({ factor: 4, truncate: 0 }), 1, D8.yarn_s4_L2048_notrunc.v],
    [yarn({ factor: 4, form: "paper" }), 1, D8.byparts_paper_s4_L2048],
    [ntkByParts({ factor: 4 }), 1, D8.yarn_s4_L2048.v],
    [llama3({ factor: 4 }), 1, D8.llama3_f4_L2048],
    [truncation(), 1, D8.giraffe_trunc_T2048],
    [truncation({ high: 0.05, low: 0.002, rho: 0.004 }), 1, [1, 0.1, 0.004, 0]],
    [power(), 1, D8["giraffe_power_k0.5"]],
    [power({ k: 0.5 }), 1, D8["giraffe_power_k0.5"]],
  ])("%o at %i", (method, length, expected) => {
    expect(printed(tableOf(method, SMALL, length).inverse)).toEqual(expected);
  });
});

describe("tables of other sizes", () => {
  it("llama3 as it was trained: b = 500000, T = 8192, factor 8", () => {
    const { inverse } = tableOf(llama3({ factor: 8 }), { d: 8, base: 5e5, trainedWindow: 8192 });
    expect(printed(inverse)).toEqual(d8_b5e5.llama3_f8_L8192);
  });

  it("llama3 of 128 channels, factor 10", () => {
    const { inverse } = tableOf(llama3({ factor: 10 }), { d: 128 });
    expect(printed(inverse.slice(30, 37))).toEqual(D128.llama3_f10_L2048_from30);
  });

  it("yarn of 128 channels, factor 10: the ramp begins at pair 16 and ends at 41", () => {
    const { inverse } = tableOf(yarn({ factor: 10 }), { d: 128 });
    const { low, high, from16, from40 } = D128.yarn_s10_L2048;
    const plain = defaultFrequencies(1e4, 128);
    expect(printed(inverse.slice(16, 19), 6)).toEqual(from16);
    expect(printed(inverse.slice(40, 43))).toEqual(from40);
    expect(inverse.findIndex((frequency, i) => frequency !== plain[i])).toBe(low + 1);
    expect(inverse.findIndex((frequency, i) => frequency === plain[i] / 10)).toBe(high);
  });

  it("dynamic ntk of 128 channels, factor 10, 16384 tokens", () => {
    const { inverse } = tableOf(dynamicNtk({ factor: 10 }), { d: 128 }, 16_384);
    const { second, last } = D128.dyn_L2048_n16384_f10;
    expect(printed([inverse[1], inverse[63]])).toEqual([second, last]);
  });

  it("truncation of 128 channels keeps 41 pairs, slows 14 and stops 9", () => {
    const { inverse } = tableOf(truncation(), { d: 128 });
    const plain = defaultFrequencies(1e4, 128);
    const rho = (2 * Math.PI) / (16 * 2048);
    const { kept, slowed, stopped } = D128.giraffe_trunc_T2048;
    const expected = [["θ", kept], ["ρ", slowed], [0, stopped]] as const; // prettier-ignore
    expect([...inverse].map((frequency, i) => (frequency === plain[i] ? "θ" : frequency === rho ? "ρ" : frequency)))
      .toEqual(expected.flatMap(([what, count]) => Array.from({ length: count }, () => what))); // prettier-ignore
  });

  it("ntk-mixed slows the fastest of 128 channels to 0.896, and with β = 1 pair m by k^(−2m/d)", () => {
    expect(printed(tableOf(ntkMixed({ factor: 12 }), { d: 128 }).inverse.slice(0, 1), 3)).toEqual([
      D128.ntk_mixed_k12_first,
    ]);
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
    expect(printed(table(yarn({ factor: 4, truncate: 0 }), 1, 4096).inverse)[2]).toBe(D8.yarn_s4_L4096_notrunc_third);
    expect(table(dynamicNtk({ factor: 4 }), 4096, 4096).inverse).toEqual(defaultFrequencies(1e4, 8));
    expect([...table(truncation(), 1, 65_536).inverse]).toEqual([...defaultFrequencies(1e4, 8)]); // 2π/T = 0.000096
  });

  it("replace the checkpoint's own scaling", () => {
    const scaled = { ...config, rope: { ...rope, type: "linear", factor: 8 } as const };
    const { inverse } = compose(interpolation({ factor: 4 })).table({ config: scaled, trainedWindow: 2048 }, 1);
    expect([...inverse]).toEqual([0.25, 0.025, 0.0025, 0.00025]);
    expect(compose(power()).table({ config: scaled, trainedWindow: 2048 }, 1).id).toBe(table(power()).id);
  });

  it.each(Object.entries(VECTORS.mscale))("of yarn with factor %s have the attention factor %d, in both forms", (factor, expected) => {
    for (const form of ["code", "paper"] as const)
      expect(printed([table(yarn({ factor: Number(factor), form })).amplitude])).toEqual([expected]);
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
