import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { methods, type MethodDefinition } from "longctx";
import { describe, expect, it } from "vitest";
import { cli, LLAMA, ROOT } from "./command-line.ts";

async function json<Value>(...argv: string[]): Promise<Value> {
  const { code, out, err } = await cli([...argv, "--json"]);
  expect({ code, err }).toEqual({ code: 0, err: "" });
  return JSON.parse(out) as Value;
}

describe("longctx tokenize", () => {
  it("gives ids and the vocabulary's own spelling; special tokens in the text are recognised", async () => {
    const { ids, tokens } = await json<{ ids: number[]; tokens: string[] }>(
      "tokenize",
      "tiny",
      "the sailor looked <eos>",
    );
    expect(tokens).toEqual(["<bos>", "the", "sailor", "looked", "<eos>"]);
    expect([ids[0], ids.at(-1)]).toEqual([1, 2]);
  });

  it("gives a line a token, and reads stdin", async () => {
    const { out } = await cli(["tokenize", "tiny", "-"], { input: "the hill" });
    expect(out.split("\n").map((line) => line.trim().split(/\s+/)[1])).toEqual([
      '"<bos>"',
      '"the"',
      '"hill"',
      undefined,
    ]);
  });
});

describe("longctx inspect", () => {
  interface Inspected {
    parameters: Record<string, number>;
    storage: Record<string, { values: number }>;
    cache: { bytesPerToken: number; lengths: { tokens: number; bytes: number }[] };
    pairs: { wavelength: number; turns: number }[];
    config: { trainedWindow: number };
  }

  it("counts what is in the file, tied or not", async () => {
    const { parameters, storage, config } = await json<Inspected>("inspect", "tiny");
    expect(parameters["total"]).toBe(889_600); // what its recipe says
    expect(parameters).toMatchObject({ embedding: 285 * 128, head: 0, untied: 889_600 + 285 * 128, norms: 9 * 128 });
    expect(parameters).toMatchObject({ attention: 4 * 4 * 128 * 128, feedForward: 4 * 3 * 128 * 384 });
    expect(storage["F16"].values).toBe(889_600);
    expect(config.trainedWindow).toBe(256);
  });

  it("says what the cache takes and which pairs are slower than the trained window", async () => {
    const { cache, pairs } = await json<Inspected>("inspect", LLAMA, "--lengths", "1k,2048");
    expect(cache.bytesPerToken).toBe(2 * 3 * 2 * 16 * 4);
    expect(cache.lengths).toEqual([1024, 2048].map((tokens) => ({ tokens, bytes: tokens * 768 })));
    // Wavelengths are 2π · 10000^(i/8): 6.3, 19.9, 62.8, then beyond the trained window of 64.
    expect(pairs.map((pair) => pair.turns < 1)).toEqual([false, false, false, true, true, true, true, true]);
    expect(pairs[1].wavelength).toBeCloseTo(19.869, 3);
  });

  it("counts experts and what chooses them as feed-forward", async () => {
    const mixtral = join(ROOT, "packages/longctx/tests/golden/mixtral"); // 5 experts of 48, hidden 32, 2 layers
    const { parameters } = await json<Inspected>("inspect", mixtral);
    expect(parameters).toMatchObject({
      feedForward: 2 * (5 * 3 * 32 * 48 + 5 * 32),
      attention: 2 * (2 * 32 * 32 + 2 * 16 * 32),
    });
    expect((await cli(["inspect", mixtral])).out).toMatch(/feed-forward +5 experts of 48, 2 a token, gated, silu/);
  });

  it("has a text for people", async () => {
    const { out } = await cli(["inspect", "tiny", "--lengths", "2k"]);
    expect(out).toContain("parameters 889,600 (926,080 with the tied embedding counted twice)");
    expect(out).toMatch(/2,048 tokens\s+8\.0 MiB/);
  });
});

describe("longctx methods", () => {
  it("lists every method with all its parameters", async () => {
    const listed = await json<(MethodDefinition & { conflicts: object })[]>("methods");
    expect(listed.map((row) => row.name)).toEqual(methods.rows.map((row) => row.name));
    const { out } = await cli(["methods"]);
    for (const { name, parameters, paper } of methods.rows) {
      for (const text of [name, paper, ...Object.keys(parameters)]) expect(out).toContain(text);
    }
  });

  it("knows which methods refuse which", async () => {
    const listed = await json<{ name: string; conflicts: Record<string, string> }[]>("methods");
    const known = new Set(methods.rows.map((row) => row.name));
    for (const { conflicts } of listed) for (const other of Object.keys(conflicts)) expect(known).toContain(other);
    const pairs = listed.flatMap(({ name, conflicts }) => Object.keys(conflicts).map((other) => [name, other]));
    expect(pairs).toContainEqual(["streaming", "dynamic-ntk"]);
    for (const [a, b] of pairs) expect(pairs).toContainEqual([b, a]);
  });

  it("says which axes are up to the parameters", async () => {
    const { out } = await cli(["methods"]);
    expect(out).toContain("rerope (axes: distance, temperature (logn=1)): ");
    expect(out).toContain("none (axes: none): ");
  });

  it("writes a page, with what was measured of a method in its section", async () => {
    const folder = mkdtempSync(join(tmpdir(), "longctx-methods-"));
    const path = join(folder, "measured.md");
    const page = async (text: string) => {
      writeFileSync(path, text);
      return cli(["methods", "--markdown", "--measured", path, "--images", "pictures"]);
    };
    const { out } = await page("# Measured\n\nIntroduction.\n\n## yarn\n\nFinds 3 of 4 (2048 tokens).\n\n## ntk\n");
    const sections = out.split("\n## ");
    expect(sections.find((section) => section.startsWith("yarn"))).toContain("Measured: Finds 3 of 4 (2048 tokens).");
    expect(sections.filter((section) => section.includes("Measured:"))).toHaveLength(1);
    for (const { name, definition } of methods.rows) {
      const section = sections.find((each) => each.startsWith(`${name}\n`));
      expect(section).toContain(`Definition: ${definition}.`);
      expect(section).toContain(`](pictures/${name}.svg)`);
    }
    expect(await page("## yran\n")).toMatchObject({ code: 1, err: expect.stringContaining('section "yran"') });
    expect(await page("## ntk\n## ntk\n")).toMatchObject({ code: 1, err: expect.stringContaining("two sections") });
    rmSync(folder, { recursive: true });
    expect((await cli(["methods", "--markdown", "--measured", path])).err).toMatch(
      /^longctx: [^\n]*measured.md[^\n]*\n$/,
    );
  });

  it("ends quietly with help", async () => {
    for (const argv of [[], ["--help"], ["generate", "--help"]]) {
      const { code, out, err } = await cli(argv);
      expect({ code, err }).toEqual({ code: 0, err: "" });
      expect(out).toContain("Usage: longctx");
    }
  });
});
