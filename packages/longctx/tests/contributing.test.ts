import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { compose, load, MethodRegistry, methods, type Device, type MethodDefinition } from "../src/index.ts";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const IDS = Array.from({ length: 40 }, (_, i) => 3 + ((i * 37) % 200));

/** "Add a method", done as it is written: a file, a row in a registry, and nothing about a backend. */
describe("the exercise of CONTRIBUTING.md", () => {
  let folder = "";
  let registry: MethodRegistry;

  beforeAll(async () => {
    const [, block] = /^ *```ts\n(.*?)^ *```$/ms.exec(readFileSync(join(ROOT, "CONTRIBUTING.md"), "utf8"))!;
    // Inside a package that depends on the core, as the real file would be.
    mkdirSync(join(ROOT, "packages/rope/tests"), { recursive: true });
    folder = mkdtempSync(join(ROOT, "packages/rope/tests/exercise-"));
    const file = join(folder, "nope.ts");
    writeFileSync(file, block.replaceAll(/^ {3}/gm, ""));
    const { nopeMethod } = (await import(file)) as { nopeMethod: MethodDefinition };
    registry = new MethodRegistry([...methods.rows, nopeMethod]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  async function logits(device: Device, spec: string, chunk: number): Promise<Float32Array> {
    const model = await load("tiny", { device });
    const session = model.session({ method: compose(...registry.parse(spec)), chunk, capacity: IDS.length });
    const rows = await session.prefill(IDS, { logitRows: IDS.length });
    await model.dispose();
    return rows;
  }

  it("changes what the model reads, the same on every device and in whatever parts", async () => {
    const expected = await logits("reference", "nope:every=2", 40);
    expect(difference(expected, await logits("reference", "none", 40))).toBeGreaterThan(0.1);
    expect(difference(expected, await logits("reference", "nope:every=2", 1))).toBeLessThan(1e-5);
    expect(difference(expected, await logits("cpu", "nope:every=2", 16))).toBeLessThan(1e-3);
  });

  it("is the plain model beyond the last layer, and composes", async () => {
    expect(await logits("reference", "nope:every=100", 40)).toEqual(await logits("reference", "none", 40));
    const both = await logits("cpu", "yarn:factor=2+sliding:window=16+nope:every=2", 16);
    expect(
      difference(both, await logits("reference", "yarn:factor=2+sliding:window=16+nope:every=2", 40)),
    ).toBeLessThan(1e-3);
  });

  it("checks its parameters by its row", () => {
    expect(() => registry.parse("nope")).toThrow(/nope needs every/);
    expect(() => registry.parse("nope:every=0")).toThrow(/every is 0/);
    expect(() => compose(...registry.parse("nope:every=2+rerope:window=8"))).toThrow(/both change the distance/);
  });
});

function difference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}
