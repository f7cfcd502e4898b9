import type { RotaryPairs } from "longctx";
import { describe, expect, it } from "vitest";
import { cli, LLAMA } from "./command-line.ts";

interface Inspected {
  readonly trainedReach: number;
  readonly pairs: { readonly turns: number }[];
  readonly method?: RotaryPairs & { readonly spec: string };
}

async function inspect(...argv: string[]): Promise<Inspected> {
  const { code, out, err } = await cli(["inspect", LLAMA, "--json", ...argv]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return JSON.parse(out) as Inspected;
}

// Golden llama: 8 pairs, base 10000, T = 64; wavelengths 6.3, 19.9, 62.8 and then beyond the window.
describe("longctx inspect --method", () => {
  it("says nothing of a method that was not asked for", async () => {
    expect((await inspect()).method).toBeUndefined();
  });

  it("interpolation by 4 brings 4 windows back into range, and no more", async () => {
    const at = async (length: string) =>
      (await inspect("--method", "interpolation:factor=4", "--length", length)).method!;
    const { spec, length, trainedReach, pairs } = await at("256");
    expect({ spec, length, trainedReach }).toEqual({ spec: "interpolation:factor=4", length: 256, trainedReach: 64 });
    expect(pairs.map(({ critical }) => critical)).toEqual([false, false, false, true, true, true, true, true]);
    expect(pairs.every(({ inDistribution }) => inDistribution)).toBe(true);
    expect(pairs[7].after / pairs[7].before).toBeCloseTo(0.25, 12);
    expect(pairs[7].turnsBefore).toBeCloseTo((64 / (2 * Math.PI)) * 10_000 ** (-7 / 8), 12);
    expect(pairs[7].reachedAngle.most).toBeCloseTo(255 * pairs[7].after, 12);
    expect((await at("300")).pairs.filter(({ inDistribution }) => !inDistribution)).toHaveLength(5);
  });

  it("looks at 4 trained windows unless told, and at the plain model where only a length is given", async () => {
    expect((await inspect("--method", "rerope:window=16")).method).toMatchObject({
      length: 256,
      distance: { least: 0, most: 16 },
    });
    const { method, trainedReach } = await inspect("--length", "65", "--trained-window", "32");
    expect(method).toMatchObject({ spec: "none", length: 65, trainedReach: 32 });
    expect(trainedReach).toBe(32);
  });

  it("has a table for people", async () => {
    const { out } = await cli(["inspect", LLAMA, "--method", "prefix:length=8"]);
    expect(out).toContain("under prefix:length=8 in a text of 256 tokens: distances from -7 to 255");
    expect(out).toContain("5 of 8 pairs never complete a turn within the 64 tokens trained on");
    expect(out).toMatch(/^ +7 +3\.1623e-4 .* outside$/m);
  });

  it.each([
    [["--method", "yran"], "yran"],
    [["--method", "parallel:windows=8", "--length", "4"], "parallel"],
    [["--length", "none"], "--length"],
    [["--trained-window", "0"], "--trained-window"],
  ])("refuses %j in a line", async (argv, word) => {
    const { code, err } = await cli(["inspect", LLAMA, ...argv]);
    expect(code).toBe(1);
    expect(err).toMatch(/^longctx: [^\n]+\n$/);
    expect(err).toContain(word);
    expect(err).not.toContain("defect");
  });
});
