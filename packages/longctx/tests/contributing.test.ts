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
 * page and the test, and nothing about a backend.
 */

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const rope = mkdtempSync(join(ROOT, "packages/rope/exercise-"));
afterAll(() => rmSync(rope, { recursive: true, force: true }));
cpSync(join(ROOT, "packages/rope/src"), join(rope, "src"), { recursive: true });

const page = readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8");
const [file, test] = [...page.matchAll(/^ *```ts\n(.*?)^ *```$/gms)].map(([, block]) =>
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

const { ropeMethods, nope } = (await import(join(rope, "src/index.ts"))) as {
  readonly ropeMethods: readonly MethodDefinition[];
  readonly nope: (parameters: { readonly every: number }) => Composition;
};
const { cases } = (await import(join(rope, "src/cases.ts"))) as { readonly cases: readonly Case[] };
const registry = new MethodRegistry([...ropeMethods, ...windowMethods]);
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
