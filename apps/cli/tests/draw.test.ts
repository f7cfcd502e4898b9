import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { methods } from "longctx";
import { afterAll, describe, expect, it } from "vitest";
import { expectWellFormed, textsOf } from "../../../packages/figures/tests/well-formed.ts";
import { cli } from "./command-line.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-draw-"));
const picture = join(folder, "rerope.svg");

const EMPTY = mkdtempSync(join(tmpdir(), "longctx-draw-"));

afterAll(() => rmSync(EMPTY, { recursive: true, force: true }));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("longctx draw", () => {
  it("writes an SVG of moderate size, to a file or to standard output", async () => {
    const argv = ["draw", "rerope:window=16", "--length", "64", "--trained-window", "32", "--rotary-size", "16"];
    expect(await cli([...argv, "--out", picture])).toMatchObject({ code: 0, out: "", err: "" });
    const svg = readFileSync(picture, "utf8");
    expectWellFormed(svg);
    expect(textsOf(svg)).toContain("a text of 64 tokens, trained on distances below 32; distances from 0 to 16");
    expect((await cli(argv)).out === svg).toBe(true);
  });

  it("takes compositions, and 4 trained windows where no length is given", async () => {
    const { out } = await cli([
      "draw",
      "yarn:factor=4+streaming:window=28",
      "--trained-window",
      "32",
      "--base",
      "500000",
    ]);
    expect(textsOf(out)).toEqual(
      expect.arrayContaining([
        "yarn:factor=4+streaming:window=28",
        "a text of 128 tokens, trained on distances below 32; distances from 0 to 31",
        "scores of the last query times 1.296",
      ]),
    );
  });

  it("draws every method of the registry, none above 100 kB", async () => {
    const argv = ["draw", "--all", "--out", folder, "--length", "8k", "--rotary-size", "128"];
    expect(await cli(argv)).toMatchObject({ code: 0, err: "" });
    for (const { name } of methods.rows) {
      const svg = readFileSync(join(folder, `${name}.svg`), "utf8");
      expectWellFormed(svg);
      expect(textsOf(svg).some((text) => text.split(":")[0] === name)).toBe(true);
      expect(svg.length).toBeLessThan(100_000);
    }
  });

  it.each([
    ["nothing to draw", [], ["--all"]],
    ["a method and all", ["none", "--all"], ["--all"]],
    ["no folder for all", ["--all"], ["--out"]],
    ["a folder that is not there", ["--all", "--out", join(folder, "nowhere")], ["nowhere", "not a folder"]],
    ["a file in no folder", ["none", "--out", join(folder, "nowhere/x.svg")], ["nowhere", "does not exist"]],
    ["a folder as a file", ["none", "--out", folder], ["is a folder"]],
    ["an unknown method", ["yran"], ["yran", "yarn"]],
    ["a parameter that is missing", ["rerope"], ["rerope", "window"]],
    ["methods that conflict", ["yarn:factor=2+ntk:factor=2"], ["frequencies"]],
    ["an odd rotary size", ["none", "--rotary-size", "7"], ["rotary", "7", "even"]],
    ["a negative base", ["none", "--base", "-1"], ["--base", "-1"]],
    ["no tokens", ["none", "--length", "0"], ["--length", "0"]],
    ["too many tokens", ["none", "--length", "4m"], ["4194304", "1048576"]],
    ["a text a method cannot divide", ["parallel:windows=8", "--length", "4"], ["parallel", "4 tokens"]],
    ["a text one of all methods cannot divide", ["--all", "--out", EMPTY, "--length", "3"], ["parallel", "3 tokens"]],
    ["a base of 1", ["none", "--base", "1"], ["--base", "above 1"]],
  ])("refuses %s in a line", async (_, argv, words) => {
    const { code, out, err } = await cli(["draw", ...argv]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    for (const word of words) expect(err).toContain(word);
    expect(err).toMatch(/^longctx: [^\n]+\n$/);
    expect(err).not.toContain("defect");
  });

  it("leaves nothing behind where it refuses", () => {
    expect(readdirSync(EMPTY)).toEqual([]);
    expect(readdirSync(folder).filter((name) => !name.endsWith(".svg"))).toEqual([]);
  });
});
