import { describe, expect, it } from "vitest";
import { compose, defineMethod, instantiate, MethodRegistry, type MethodDefinition } from "@longctx/core";

const factor = { about: "factor", unit: "ratio", default: null, min: 1 } as const;
const words = { summary: "Multiplies scores.", definition: "τ = by", paper: "none", deviations: "none" };
const warm = defineMethod({
  ...words,
  name: "warm",
  axes: ["visibility", { axis: "temperature", when: "by ≠ 1", claims: ({ by }) => by !== 1 }],
  parameters: {
    by: factor,
    mode: { about: "a word", unit: "choice", choices: ["plain", "odd"], default: "plain" },
    span: { about: "tokens", unit: "tokens", default: "T", min: 1, integer: true },
  },
  create: ({ by, mode, span }) => ({ span, ...(mode === "plain" && by !== 1 ? { temperature: () => by } : {}) }),
});

describe("defineMethod", () => {
  it("is the row and the function under one name", () => {
    const row: MethodDefinition = warm;
    expect([row.name, row.definition, Object.keys(row.parameters)]).toEqual(["warm", "τ = by", ["by", "mode", "span"]]);
    const registry = new MethodRegistry([warm]);
    expect(registry.rows).toEqual([warm]);
    expect(registry.parse("warm:by=2,mode=odd")[0]).toEqual(warm({ by: 2, mode: "odd" }));
    expect(instantiate(row, { by: 2 }).spec).toBe(warm({ by: 2 }).spec);
  });

  it("adds the spec, and the axes that the values claim", () => {
    expect(warm({ by: 2, span: 9 })).toMatchObject({
      spec: "warm:by=2,span=9",
      axes: ["visibility", "temperature"],
      span: 9,
    });
    expect(warm({ by: 1 })).toMatchObject({ spec: "warm:by=1", axes: ["visibility"], span: undefined });
    expect(compose(warm({ by: 1 })).axes).toEqual(["visibility"]);
  });

  it("asks for parameters without a default, and for no others", () => {
    // @ts-expect-error: `by` has no default.
    expect(() => warm()).toThrow("warm needs by (factor): write warm:by=VALUE.");
    // @ts-expect-error: `by` has no default.
    expect(() => warm({ mode: "odd" })).toThrow("warm needs by");
    // @ts-expect-error: only the words of the row.
    expect(() => warm({ by: 1, mode: "even" })).toThrow("mode is even, but has to be plain or odd");
    // @ts-expect-error: only the parameters of the row.
    expect(warm({ by: 1, mood: "odd" }).spec).toBe("warm:by=1");
    const still = defineMethod({ ...words, name: "still", axes: [], parameters: {}, create: () => ({}) });
    expect(still().spec).toBe("still");
  });

  it("takes options of another form where a method wants them", () => {
    const halved = defineMethod(
      { ...words, name: "halved", axes: [], parameters: { by: factor }, create: () => ({}) },
      (options: { readonly twice: number }) => ({ by: options.twice / 2 }),
    );
    expect(halved({ twice: 6 }).spec).toBe("halved:by=3");
  });
});
