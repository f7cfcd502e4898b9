import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { compose, instantiate, LongctxError, MethodRegistry, type MethodDefinition } from "@longctx/core";
import { dynamicNtk, interpolation, ntk, rerope, ropeMethods, yarn } from "../src/index.ts";

const registry = new MethodRegistry(ropeMethods);
const code = (act: () => unknown) => {
  try {
    act();
  } catch (error) {
    if (error instanceof LongctxError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "nothing was thrown";
};

describe("rows", () => {
  it("are complete", () => {
    for (const row of ropeMethods) {
      for (const text of [row.name, row.summary, row.paper, row.deviations]) expect(text).not.toBe("");
      expect(row.name).toMatch(/^[a-z]+(-[a-z]+)*$/);
    }
  });

  it("make methods on the axes they name", () => {
    for (const row of ropeMethods) {
      const method = instantiate(row, Object.fromEntries(Object.keys(row.parameters).map((name) => [name, 1])));
      for (const axis of method.axes) expect(row.axes).toContain(axis);
    }
  });
});

/** Parameters inside the bounds of a row; those with a default may be left out. */
function parametersOf(row: MethodDefinition): fc.Arbitrary<Record<string, number>> {
  const one = Object.entries(row.parameters).map(([name, { unit, integer, min = 0, max = 1e6 }]) => {
    const value =
      unit === "flag"
        ? fc.integer({ min: 0, max: 1 })
        : integer
          ? fc.integer({ min, max })
          : fc.double({ min, max, noNaN: true });
    return [name, value] as const;
  });
  const required = Object.keys(row.parameters).filter((name) => row.parameters[name].default === null);
  return fc.record(Object.fromEntries(one), { requiredKeys: required });
}

describe("specs", () => {
  it.each(ropeMethods.map((row) => ({ name: row.name, row })))("$name: what is printed is parsed back", ({ row }) => {
    fc.assert(
      fc.property(parametersOf(row), (given) => {
        fc.pre(!((given.beta_fast ?? 32) < (given.beta_slow ?? 1)));
        const { spec } = instantiate(row, given);
        expect(registry.parse(spec)[0].spec).toBe(spec);
      }),
    );
  });

  it("are composed with +", () => {
    const methods = registry.parse("yarn:factor=4 + rerope:window=512");
    expect(compose(...methods).spec).toBe("yarn:factor=4+rerope:window=512");
    expect(compose(...registry.parse("none")).spec).toBe("none");
    expect(registry.parse("rerope:window=8,logn=true")[0].spec).toBe("rerope:window=8,logn=1");
  });

  it.each([
    ["yran:factor=4", 'There is no method "yran"'],
    ["", 'There is no method ""'],
    ["yarn", "yarn needs factor"],
    ["yarn:scale=4", 'yarn has no parameter "scale"'],
    ["yarn:toString=4", 'yarn has no parameter "toString"'],
    ["none:factor=2", "it takes none"],
    ["yarn:factor", "Write yarn's parameter as factor=VALUE"],
    ["yarn:factor=", "Write yarn's parameter as factor=VALUE"],
    ["yarn:factor=4=5", "Write yarn's parameter as factor=VALUE"],
    ["yarn:factor=4,factor=5", "given factor twice"],
    ["yarn:factor=four", "factor is NaN"],
    ["yarn:factor=0.5", "a number of at least 1"],
    ["yarn:factor=Infinity", "a number of at least 1"],
    ["yarn:factor=4,truncate=2", "0 or 1"],
    ["yarn:factor=4,beta_fast=1,beta_slow=32", "exchange the two"],
    ["yarn:factor=4,beta_slow=0", "at least 0.01"],
    ["rerope:window=0", "a whole number of at least 1"],
    ["rerope:window=1.5", "a whole number of at least 1"],
    ["interpolation:factor=-2", "a number of at least 1"],
    ["ntk:factor=NaN", "factor is NaN"],
    ["dynamic-ntk:factor=0", "a number of at least 1"],
  ])("%s is refused", (spec, message) => {
    const thrown = code(() => registry.parse(spec));
    expect(thrown).toMatch(/^method: /);
    expect(thrown).toContain(message);
  });

  it("are refused from the factories too", () => {
    for (const make of [interpolation, ntk, dynamicNtk, yarn]) {
      for (const factor of [Number.NaN, -1, 0.99, Infinity])
        expect(code(() => make({ factor }))).toMatch(/^method: .*factor is/);
    }
    for (const window of [Number.NaN, -1, 0, 2.5])
      expect(code(() => rerope({ window }))).toMatch(/^method: .*window is/);
  });
});

describe("conflicts", () => {
  it.each([
    [yarn({ factor: 4 }), ntk({ factor: 4 }), "both change the frequencies"],
    [interpolation({ factor: 2 }), interpolation({ factor: 2 }), "both change the frequencies"],
    [rerope({ window: 8 }), rerope({ window: 9 }), "both change the distance"],
    [yarn({ factor: 4 }), rerope({ window: 8, logn: 1 }), "both change the temperature"],
  ])("%o and %o", (a, b, message) => {
    for (const pair of [[a, b], [b, a]]) expect(code(() => compose(...pair))).toContain(message); // prettier-ignore
  });

  it("one method of each axis is fine", () => {
    expect(compose(yarn({ factor: 4, attention_factor: 1 }), rerope({ window: 8, logn: 1 })).axes).toEqual([
      "frequencies",
      "distance",
      "temperature",
    ]);
    expect(compose(yarn({ factor: 4 }), rerope({ window: 8 })).axes).toEqual([
      "frequencies",
      "temperature",
      "distance",
    ]);
  });
});
