import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { methodFigure } from "../../figures/src/index.ts";
import { windowMethods } from "@longctx/windows";
import { compose, exampleMethod, MethodRegistry, type Composition, type MethodDefinition } from "../src/index.ts";
import { methodsMarkdown } from "../../../apps/cli/src/methods-markdown.ts";
import type { Case } from "./definitions/cases.ts";
import { expectDefinitions } from "./definitions/expect-definitions.ts";
import { difference, judgeOf } from "./definitions/judge.ts";

/*
 * "Add a method" of CONTRIBUTING.md, done as it is written on a copy of packages/rope: the file, the export, the row, the
 * page and the test, and nothing about a backend. Then its methods with a choice and with a memory, done the same way.
 */

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const rope = mkdtempSync(join(ROOT, "packages/rope/exercise-"));
afterAll(() => rmSync(rope, { recursive: true, force: true }));
cpSync(join(ROOT, "packages/rope/src"), join(rope, "src"), { recursive: true });

const page = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8");
const [file, test, choosing, remembering] = [...page.matchAll(/^ *```ts\n(.*?)^ *```$/gms)].map(([, block]) =>
  block.replaceAll(/^ {3}/gm, ""),
);

// 1. The file. 2. The export and 3. the row.
writeFileSync(join(rope, "src/nope.ts"), file);
const index = readFileSync(join(rope, "src/index.ts"), "utf8")
  .replace('export * from "./none.ts";', 'export * from "./none.ts";\nexport * from "./nope.ts";')
  .replace("  none,\n", "  none,\n  nope,\n")
  .replace('import { none } from "./none.ts";', '$&\nimport { nope } from "./nope.ts";');
writeFileSync(join(rope, "src/index.ts"), index);
// 5. The test, a line of a list.
writeFileSync(join(rope, "src/cases.ts"), `export const cases = [${test}];`);

// The files of a method with a choice and of one with a memory.
writeFileSync(join(rope, "src/recall.ts"), choosing);
writeFileSync(join(rope, "src/trace.ts"), remembering);
const { recall } = (await import(join(rope, "src/recall.ts"))) as { readonly recall: MethodDefinition };
const { trace } = (await import(join(rope, "src/trace.ts"))) as { readonly trace: MethodDefinition };

const { ropeMethods, nope } = (await import(join(rope, "src/index.ts"))) as {
  readonly ropeMethods: readonly MethodDefinition[];
  readonly nope: (parameters: { readonly every: number }) => Composition;
};
const { cases } = (await import(join(rope, "src/cases.ts"))) as { readonly cases: readonly Case[] };
const registry = new MethodRegistry([...ropeMethods, ...windowMethods, recall, trace]);
const parse = (spec: string) => compose(...registry.parse(spec));
const judge = await judgeOf("llama", parse);

describe("the exercise of CONTRIBUTING.md", () => {
  expectDefinitions(cases, judge);

  it("is exported, in the registry, and the plain model beyond the last layer", async () => {
    expect(nope({ every: 4 }).spec).toBe("nope:every=4");
    const read = (spec: string) =>
      judge.read("reference", { spec, parts: [] }, judge.ids(48), { chunk: 16, together: 48, prompt: 48 });
    expect(await read("nope:every=100")).toEqual(await read("none"));
  });

  it("composes with the other axes, on every device", async () => {
    const both = { spec: "yarn:factor=2+sliding:window=16+nope:every=2", parts: [] };
    const way = { chunk: 16, together: 48, prompt: 48 };
    const [expected, computed] = [
      await judge.read("reference", both, judge.ids(48), way),
      await judge.read("cpu", both, judge.ids(48), way),
    ];
    expect(difference(computed, expected)).toBeLessThan(1e-3);
  });

  it("checks its parameters by its row", () => {
    expect(() => parse("nope")).toThrow(/nope needs every/);
    expect(() => parse("nope:every=0")).toThrow(/every is 0/);
    expect(() => parse("nope:every=2+rerope:window=8")).toThrow(/both change the distance/);
  });

  it("has its section and its picture from the row alone", async () => {
    const row = registry.rows.find(({ name }) => name === "nope")!;
    const text = methodsMarkdown({ rows: [row], conflictsOf: () => ({}), images: "images/methods" });
    for (const part of ["## nope", row.definition, row.paper, "nope.svg"]) expect(text).toContain(part);
    expect(await methodFigure(exampleMethod(row))).toMatch(/^<svg/);
  });
});

describe.each([
  ["a choice", "recall:window=16", "recall:window=4096"],
  ["a memory", "trace:segment=16", "trace:segment=16,gate=-1000"],
])("the exercise of a method with %s", (_, spec, plain) => {
  const read = (device: "reference" | "cpu", method: string, chunk: number) =>
    judge.read(device, { spec: method, parts: [] }, judge.ids(160), { chunk, together: 160, prompt: 160 });

  it("computes the same on every device and in any chunk, and not what the plain model does", async () => {
    const expected = await read("reference", spec, 64);
    expect(difference(await read("reference", spec, 7), expected)).toBeLessThan(1e-6);
    for (const chunk of [7, 64]) expect(difference(await read("cpu", spec, chunk), expected)).toBeLessThan(1e-3);
    expect(difference(await read("reference", "none", 64), expected)).toBeGreaterThan(1e-3);
  });

  it("is the plain model where it has nothing to add", async () => {
    expect(difference(await read("reference", plain, 64), await read("reference", "none", 64))).toBeLessThan(1e-5);
  });

  it("composes, and has its section and its picture from the row alone", async () => {
    expect(parse(`yarn:factor=4+${spec}`).axes).toHaveLength(3);
    const row = registry.rows.find(({ name }) => name === spec.split(":", 1)[0])!;
    expect(methodsMarkdown({ rows: [row], conflictsOf: () => ({}), images: "images/methods" })).toContain(
      row.definition,
    );
    expect(await methodFigure(exampleMethod(row))).toMatch(/^<svg/);
  });
});
