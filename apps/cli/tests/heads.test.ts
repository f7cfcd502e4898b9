import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readHeads } from "longctx";
import { afterAll, describe, expect, it } from "vitest";
import { expectWellFormed, textsOf } from "../../../packages/figures/tests/well-formed.ts";
import { cli, LLAMA } from "./command-line.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-heads-"));
const [file, picture] = [join(folder, "heads.json"), join(folder, "heads.svg")];
const argv = ["heads", "tiny", "--device", "cpu", "--prompts", "8"];

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("longctx heads", () => {
  it("finds the embedded model's heads: a table, a file and a picture", async () => {
    const { code, out, err } = await cli([...argv, "--show", "2", "--out", file, "--figure", picture]);
    expect(code).toBe(0);
    const lines = out.trimEnd().split("\n");
    expect(lines[0]).toMatch(/^layer\.head +chosen by +held out +world +world-4$/);
    expect(lines[1]).toMatch(/^1\.\d +\d+ % \(\d/);
    expect(lines).toHaveLength(1 + 2 + 5 + 2); // titles, heads, pairs, a set of three and one of four
    expect(err).toMatch(/^16 of 16 prompts of up to 256 tokens in .*, half of them held out; use 1\.\d/m);

    const content = JSON.parse(readFileSync(file, "utf8")) as { readonly measured: object; readonly heads: unknown[] };
    const { best, model } = readHeads(content, file);
    expect(new Set(best.map(([layer]) => layer))).toEqual(new Set([1]));
    expect(model).toMatchObject({ name: "tiny", modelType: "llama", layerCount: 4, queryHeads: 4 });
    expect(content.measured).toEqual({
      length: 256,
      seed: 1,
      kinds: ["world", "world-4"],
      method: "none",
      device: "cpu",
      precision: "exact",
      phrase: 3,
      prompts: 16,
      planned: 16,
    });
    expect(content.heads).toHaveLength(16);
    const svg = readFileSync(picture, "utf8");
    expectWellFormed(svg);
    expect(textsOf(svg)).toContain("Heads of tiny that find a needle");
    // The same seed, model and device give the same bytes.
    expect((await cli([...argv, "--json"])).out === readFileSync(file, "utf8")).toBe(true);
  });

  it("takes other kinds, texts and a method", async () => {
    const text = join(folder, "book.txt");
    writeFileSync(text, "the sailor slept near the mill . ".repeat(200));
    const { code, out } = await cli([...argv, "--kinds", "sentence", "--text", text, "--length", "700", "--method", "rerope:window=128", "--layers", "2", "--figure", picture]); // prettier-ignore
    expect(code).toBe(0);
    expect(out).not.toMatch(/^[23]\.\d /m); // heads of the layers 0 and 1 only
    expect(readFileSync(picture, "utf8").match(/aria-label="head: \d; layer: \d; value/g)).toHaveLength(2 * 2 * 4);
    expect(out.split("\n")[0]).toMatch(/held out +sentence$/);
  });

  it("is stopped before it has anything", async () => {
    const { code, out, err } = await cli(argv, { signal: AbortSignal.abort() });
    expect({ code, out }).toEqual({ code: 130, out: "" });
    expect(err).toMatch(/Stopped/);
  });

  it.each([
    ["a length beyond training", ["--length", "512"], ["--length is 512", "256"]],
    [
      "a model too small for its probes",
      ["--kinds", "sentence", "--length", "128"],
      ["128 tokens are too few", "sentence"],
    ],
    ["an odd kind", ["--kinds", "world,poem"], ['"poem"', "world-4"]],
    ["one prompt", ["--prompts", "1"], ["--prompts", "at least 2"]],
    ["more layers than there are", ["--layers", "5"], ["heads of 5 layers", "1 to 4"]],
    ["a head without a layer", ["--use", "1.2,3"], ["--use", '"3"', "14.3"]],
    ["a head that is not there", ["--use", "1.4"], ["1.4 is none", "3.3"]],
    ["a phrase of none", ["--phrase", "0"], ["--phrase", "at least 1"]],
    ["a folder that is not there", ["--out", join(folder, "no/x.json")], ["does not exist"]],
    ["a text that is not there", ["--text", join(folder, "none.txt")], ["none.txt", "does not exist"]],
    ["a text that is too short", ["--kinds", "sentence", "--length", "700", "--method", "none", "--text", join(folder, "short.txt")], ["short.txt", "shorter text"]], // prettier-ignore
  ])("refuses %s in a line", async (_, more, words) => {
    writeFileSync(join(folder, "short.txt"), "too short .");
    const { code, out, err } = await cli([...argv, ...more]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    for (const word of words) expect(err).toContain(word);
    expect(err).toMatch(/^longctx: [^\n]+\n$/);
    expect(err).not.toContain("defect");
  });

  it("refuses a model without a tokenizer", async () => {
    const { code, err } = await cli(["heads", LLAMA, "--device", "cpu"]);
    expect(code).toBe(1);
    expect(err).toMatch(/no tokenizer/);
  });

  it("leaves nothing half written behind", () => {
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
  });
});
