import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import {
  axisOf,
  compose,
  exampleOf,
  instantiate,
  LongctxError,
  MethodRegistry,
  type MethodDefinition,
  type ParameterDefinition,
  type ParameterValue,
} from "@longctx/core";
import {
  dynamicNtk,
  interpolation,
  llama3,
  logn,
  longrope,
  ntk,
  ntkByParts,
  ntkMixed,
  power,
  rerope,
  ropeMethods,
  truncation,
  yarn,
} from "../src/index.ts";

/** The content that every file named in a spec of this test has. */
const FACTORS = { short_factor: [1, 1, 1, 1], long_factor: [1, 2, 3, 4] };
const registry = new MethodRegistry(ropeMethods, () => FACTORS);
const lists = { short: [1, 1, 1, 1], long: [1, 2, 3, 4] };
const code = (act: () => unknown) => {
  try {
    act();
  } catch (error) {
    if (error instanceof LongctxError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "nothing was thrown";
};

function attempt<T>(make: () => T): T | null {
  try {
    return make();
  } catch (error) {
    if (error instanceof LongctxError) return null;
    throw error;
  }
}

describe("rows", () => {
  it("are complete", () => {
    for (const row of ropeMethods) {
      for (const text of [row.name, row.summary, row.paper, row.deviations]) expect(text).not.toBe("");
      expect(row.name).toMatch(/^[a-z]+\d?(-[a-z]+)*$/);
    }
  });

  it("make methods on the axes they name", () => {
    for (const row of ropeMethods) {
      const method = instantiate(row, examples(row));
      for (const axis of method.axes) expect(row.axes.map(axisOf)).toContain(axis);
    }
  });

  it.each(ropeMethods.map((row) => ({ name: row.name, row })))("$name: names the axes that are up to parameters", ({ row }) => {
    const claimed = new Map(row.axes.map((claim) => [axisOf(claim), new Set<boolean>()]));
    fc.assert(
      fc.property(parametersOf(row), (given) => {
        const method = attempt(() => instantiate(row, given));
        for (const [axis, seen] of claimed) if (method) seen.add(method.axes.includes(axis));
      }),
      { examples: neutral(row) },
    );
    const conditional = [...claimed].filter(([, seen]) => seen.has(false)).map(([axis]) => axis);
    expect(conditional).toEqual(row.axes.filter((claim) => typeof claim !== "string").map(axisOf));
    for (const [, seen] of claimed) expect(seen.has(true)).toBe(true);
  }); // prettier-ignore
});

function examples(row: MethodDefinition): Record<string, ParameterValue | undefined> {
  return Object.fromEntries(
    Object.entries(row.parameters).map(([name, parameter]) => [name, exampleOf(parameter, 64)]),
  );
}

function valueOf(parameter: ParameterDefinition): fc.Arbitrary<ParameterValue> {
  if (parameter.unit === "choice") return fc.constantFrom(...parameter.choices);
  if (parameter.unit === "layers") return fc.constantFrom("all", [0], [1, 3]);
  if (parameter.unit === "file")
    return fc.stringMatching(/^[a-zA-Z0-9._/: -]{0,20}[a-z]$/).map((name) => ({ path: name.trim(), content: FACTORS }));
  const { unit, integer, min = 0, max = 1e6 } = parameter;
  if (unit === "flag") return fc.integer({ min: 0, max: 1 });
  return integer ? fc.integer({ min, max }) : fc.double({ min, max, noNaN: true });
}

/** Parameters inside the bounds of a row; those with a default may be left out. */
function parametersOf(row: MethodDefinition): fc.Arbitrary<Record<string, ParameterValue>> {
  const values = Object.entries(row.parameters).map(([name, parameter]) => [name, valueOf(parameter)] as const);
  const required = Object.keys(row.parameters).filter((name) => row.parameters[name].default === null);
  return fc.record(Object.fromEntries(values), { requiredKeys: required });
}

/** Values with all ratios at 1, which random numbers would not hit. */
function neutral(row: MethodDefinition): [Record<string, ParameterValue>][] {
  const entries = Object.entries(row.parameters).filter(([, parameter]) => parameter.default === null);
  const values = entries.map(([name, parameter]) => [name, parameter.unit === "ratio" ? 1 : exampleOf(parameter, 64)]);
  return [[Object.fromEntries(values) as Record<string, ParameterValue>]];
}

describe("specs", () => {
  it.each(ropeMethods.map((row) => ({ name: row.name, row })))("$name: what is printed is parsed back", ({ row }) => {
    fc.assert(
      fc.property(parametersOf(row), (given) => {
        const method = attempt(() => instantiate(row, given));
        fc.pre(method !== null); // A method refuses some pairs of values that its parameters take.
        expect(registry.parse(method.spec)[0].spec).toBe(method.spec);
      }),
    );
  });

  it("are composed with +", () => {
    const methods = registry.parse("yarn:factor=4 + rerope:window=512");
    expect(compose(...methods).spec).toBe("yarn:factor=4+rerope:window=512");
    expect(compose(...registry.parse("none")).spec).toBe("none");
  });

  it.each([
    [" yarn : factor = 4 , truncate = 0 ", "yarn:factor=4,truncate=0"],
    ["rerope:window=8,logn=true", "rerope:window=8,logn=1"],
    ["yarn:factor=4,truncate=false", "yarn:factor=4,truncate=0"],
    ["rerope:window=1e4", "rerope:window=10000"],
    ["power:k=.5", "power:k=0.5"],
    ["power:k=1.5E-3", "power:k=0.0015"],
  ])("%s is %s", (written, spec) => expect(registry.parse(written)[0].spec).toBe(spec));

  it("spell large numbers without the + that parts methods", () => {
    const { spec } = power({ k: 1e21 });
    expect(spec).toBe("power:k=1e21");
    expect(registry.parse(spec)[0].spec).toBe(spec);
  });

  it("may have words and files among their parameters", () => {
    expect(registry.parse("yarn:factor=4,form= paper ")[0].spec).toBe("yarn:factor=4,form=paper");
    const path = "C:\\some folder\\factors.json";
    expect(registry.parse(`longrope:factors=${path},factor=4`)[0].spec).toBe(`longrope:factors=${path},factor=4`);
  });

  it("that name files need something that reads them", () => {
    const without = new MethodRegistry(ropeMethods);
    expect(code(() => without.parse("longrope:factors=f.json,factor=4"))).toBe(
      "method: longrope: factors is the file f.json, but nothing here reads files; make the method with its factory instead.",
    );
    const missing = new MethodRegistry(ropeMethods, (path) => {
      throw new LongctxError("file", `${path} does not exist.`);
    });
    expect(code(() => missing.parse("longrope:factors=f.json,factor=4"))).toBe("file: f.json does not exist.");
  });

  it.each([
    ["yran:factor=4", 'There is no method "yran"'],
    ["", 'There is no method ""'],
    ["yarn", "yarn needs factor"],
    ["yarn:scale=4", 'yarn has no parameter "scale"'],
    ["yarn:toString=4", 'yarn has no parameter "toString"'],
    ["none:factor=2", 'none has no parameter "factor" ("none:factor=2"); it takes none'],
    ["yarn:factor", "Write yarn's parameter as factor=VALUE"],
    ["yarn:factor=", "Write yarn's parameter as factor=VALUE"],
    ["yarn:factor=4=5", "Write yarn's parameter as factor=VALUE"],
    ["yarn:factor=4,factor=5", "given factor twice"],
    ["yarn:factor=four", "factor is four, but has to be a number of at least 1"],
    ["yarn:factor=auto", "factor=auto stands for length / trained window in the needle app only; write a number"],
    ["yarn:factor=0x10", "factor is 0x10, but"],
    ["yarn:factor=1_000", "factor is 1_000, but"],
    ["yarn:factor=e4", "factor is e4, but"],
    ["yarn:factor=1e400", "factor is Infinity, but"],
    ["yarn:factor=true", "factor is true, but has to be a number of at least 1"],
    ["rerope:window=true", "window is true, but has to be a whole number of at least 1"],
    ["rerope:window=auto", "window is auto, but has to be a whole number of at least 1"],
    ["rerope:window=8,logn=yes", "logn is yes, but has to be 0 or 1"],
    ["yarn:", 'A parameter is missing in "yarn:": write KEY=VALUE after ":"'],
    ["yarn:factor=4,", 'A parameter is missing in "yarn:factor=4,"'],
    ["yarn:=4", "it takes factor, beta_fast"],
    ["none:", "it takes none"],
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
    ["yarn:factor=4,form=tables", "form is tables, but has to be code or paper"],
    ["yarn:factor=4,form=", "Write yarn's parameter as form=VALUE"],
    ["yarn:factor=4,form=1", "form is 1, but has to be code or paper"],
    ["yarn:factor=4,form=paper,beta_fast=2,beta_slow=2", "both 2, but the paper's ramp divides by their difference"],
    ["yarn:factor=4,form=paper,truncate=0", "the ramp of form=paper has no ends to round; leave truncate out"],
    ["ntk-by-parts", "ntk-by-parts needs factor"],
    ["ntk-by-parts:factor=4,form=paper", 'ntk-by-parts has no parameter "form"'],
    ["ntk-mixed:factor=4,beta=-1", "beta is -1, but has to be a number of at least 0"],
    ["llama3:factor=8,low=4,high=1", "high is 1 and low 4, but high has to be the larger"],
    ["llama3:factor=8,low=4", "high is 4 and low 4"],
    ["llama3:factor=8,low=0", "low is 0"],
    ["truncation:high=0.1,low=0.2", "low is 0.2, but has to be at most high, 0.1"],
    ["truncation:high=0.1,rho=0.2", "rho is 0.2, but has to be at most high, 0.1"],
    ["truncation:low=-1", "low is -1"],
    ["power:k=-0.5", "k is -0.5"],
    ["power:k=NaN", "k is NaN"],
    ["logn:strength=2", 'logn has no parameter "strength"'],
    ["longrope:factor=4", "longrope needs factors"],
    ["longrope:factors=f.json", "longrope needs factor ("],
    ["longrope:factors=f.json,factor=0.5", "factor is 0.5"],
  ])("%s is refused", (spec, message) => {
    const thrown = code(() => registry.parse(spec));
    expect(thrown).toMatch(/^method: /);
    expect(thrown).toContain(message);
  });

  it("are refused from the factories too", () => {
    for (const make of [
      interpolation,
      ntk,
      dynamicNtk,
      ntkMixed,
      yarn,
      ntkByParts,
      llama3,
      (p: { factor: number }) => longrope({ ...lists, ...p }),
    ]) {
      for (const factor of [Number.NaN, -1, 0.99, Infinity])
        expect(code(() => make({ factor }))).toMatch(/^method: .*factor is/);
    }
    for (const window of [Number.NaN, -1, 0, 2.5])
      expect(code(() => rerope({ window }))).toMatch(/^method: .*window is/);
    for (const form of ["", "Paper", Number.NaN] as unknown[])
      expect(code(() => yarn({ factor: 4, form: form as "code" }))).toMatch(/^method: yarn: form is .*code or paper/);
    expect(
      code(() =>
        instantiate(
          registry.rows.find((row) => row.name === "longrope")!,
          { factors: 4, factor: 4 },
        ),
      ),
    ).toBe(
      "method: longrope: factors is 4, but has to be a JSON file (object with two lists of d/2 divisors, short_factor and long_factor (or short and long); in a spec a path that has no comma, no + and no = in it).",
    );
  });
});

describe("conflicts", () => {
  it.each([
    [yarn({ factor: 4 }), ntk({ factor: 4 }), "both change the frequencies"],
    [interpolation({ factor: 2 }), interpolation({ factor: 2 }), "both change the frequencies"],
    [rerope({ window: 8 }), rerope({ window: 9 }), "both change the distance"],
    [yarn({ factor: 4 }), rerope({ window: 8, logn: 1 }), "both change the temperature"],
    [yarn({ factor: 4 }), logn(), "both change the temperature"],
    [logn(), rerope({ window: 8, logn: 1 }), "both change the temperature"],
    [longrope({ ...lists, factor: 4 }), logn(), "both change the temperature"],
    [longrope({ ...lists, factor: 4 }), yarn({ factor: 4 }), "both change the frequencies"],
    [ntkByParts({ factor: 4 }), llama3({ factor: 8 }), "both change the frequencies"],
    [power(), truncation(), "both change the frequencies"],
    [ntkMixed({ factor: 4 }), ntk({ factor: 4 }), "both change the frequencies"],
  ])("%o and %o", (a, b, message) => {
    for (const pair of [[a, b], [b, a]]) expect(code(() => compose(...pair))).toContain(message); // prettier-ignore
  });

  it("one method of each axis is fine", () => {
    expect(compose(yarn({ factor: 4, attention_factor: 1 }), rerope({ window: 8, logn: 1 })).axes).toEqual([
      "frequencies",
      "distance",
      "temperature",
    ]);
    for (const table of [
      ...[interpolation, ntk, dynamicNtk, ntkMixed, ntkByParts, llama3].map((make) => make({ factor: 4 })),
      longrope({ ...lists, factor: 1 }),
      truncation(),
      power(),
    ])
      expect(compose(table, logn()).axes).toEqual(["frequencies", "temperature"]);
    expect(compose(yarn({ factor: 4 }), rerope({ window: 8 })).axes).toEqual([
      "frequencies",
      "temperature",
      "distance",
    ]);
  });
});
