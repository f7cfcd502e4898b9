import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { readMeasured, writeMeasured } from "../src/measured.ts";
import { wholeNumber } from "../src/notebook.ts";
import { expectWellFormed } from "../../packages/figures/tests/well-formed.ts";

const NOTEBOOKS = dirname(dirname(fileURLToPath(import.meta.url)));
const folder = mkdtempSync(join(tmpdir(), "longctx-notebooks-"));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a notebook as `pnpm notebook` does. */
function run(
  name: string,
  ...argv: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const loader = join(NOTEBOOKS, "../node_modules/tsx/dist/loader.mjs");
  const command = ["--import", loader, join(NOTEBOOKS, `${name}.ts`), ...argv];
  return new Promise((resolve) => {
    execFile(process.execPath, command, { cwd: NOTEBOOKS }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

describe.each(["01-rope-spectrum", "02-positions-and-masks"])("%s", (name) => {
  it("runs, and still gives the results that are kept", async () => {
    const out = join(folder, name);
    expect(await run(name, "--out", out)).toMatchObject({ code: 0, err: "" });
    const kept = join(NOTEBOOKS, "results", name);
    expect(readdirSync(out).sort()).toEqual(readdirSync(kept).sort());
    for (const file of readdirSync(out)) {
      const text = readFileSync(join(out, file), "utf8");
      if (file.endsWith(".svg")) expectWellFormed(text);
      expect(text === readFileSync(join(kept, file), "utf8"), `${file} has changed`).toBe(true);
    }
  });
});

describe("03-perplexity-past-the-window", () => {
  const name = "03-perplexity-past-the-window";
  const out = join(folder, name);
  const small = ["--model", "tiny", "--length", "96", "--block", "32", "--texts", "persuasion", "--out", out];
  const files = () => readdirSync(join(out, "data")).map((file) => join(out, "data", file));

  it("measures, and goes on from what was measured", async () => {
    expect(await run(name, ...small, "--methods", "none")).toMatchObject({ code: 0 });
    const [first] = files();
    const before = statSync(first).mtimeMs;
    const { code } = await run(name, ...small, "--methods", "none rerope:window=16");
    expect(code).toBe(0);
    expect(files()).toHaveLength(2);
    expect(statSync(first).mtimeMs).toBe(before);
    const page = readFileSync(join(out, "README.md"), "utf8");
    const row = (spec: string) =>
      new RegExp(`^\\| \`${spec}\` \\| (.*) \\|$`, "m").exec(page)![1].split(" | ").map(Number);
    const { measured } = JSON.parse(readFileSync(first, "utf8")) as { measured: { nats: number }[] };
    expect(row("none")).toEqual(measured.map(({ nats }) => Number(nats.toFixed(3))));
    expect(row("rerope:window=16")[0]).not.toBe(row("none")[0]);
    expectWellFormed(readFileSync(join(out, "persuasion.svg"), "utf8"));
  });

  it("does not take what something else has written for its own", () => {
    const identity = { model: "m", text: "t", method: "a+b", length: 8, block: 2, device: "cpu", precision: "exact" };
    const blocks = [{ from: 1, to: 2, predictions: 2, nats: 1, perplexity: Math.E }];
    expect(readMeasured(folder, identity)).toBeNull();
    writeMeasured(folder, identity, blocks);
    expect(readMeasured(folder, identity)).toEqual(blocks);
    expect(readMeasured(folder, { ...identity, block: 4 })).toBeNull();
    const [file] = readdirSync(join(folder, "data"));
    writeFileSync(join(folder, "data", file), "{");
    expect(() => readMeasured(folder, identity)).toThrow("is not what this notebook has written");
  });

  it("refuses bad input in a line", async () => {
    const { code, err } = await run(name, "--lenth", "5");
    expect(code).toBe(1);
    expect(err).toMatch(/^Unknown option '--lenth'\. The notebook takes --out, --model, --length, [^\n]+\n$/);
  });
});

describe("04-retrieval", () => {
  const name = "04-retrieval";

  it("has a page that says what its data and the benchmarks' results say", async () => {
    const kept = join(NOTEBOOKS, "results", name);
    const copy = join(folder, `${name}-kept`);
    cpSync(kept, copy, { recursive: true });
    expect(await run(name, "--out", copy)).toMatchObject({ code: 0, err: "" });
    expect(readFileSync(join(copy, "README.md"), "utf8")).toBe(readFileSync(join(kept, "README.md"), "utf8"));
  }, 60_000);

  const out = join(folder, name);
  const runs = join(folder, "runs");
  const small = ["--length", "384", "--prompts", "2", "--runs", runs, "--out", out];

  it("measures needles and layers, keeps them, and shows what benchmarks have measured", async () => {
    cpSync(join(NOTEBOOKS, "../benchmarks/results/retrieval-tiny"), join(runs, "retrieval-tiny"), { recursive: true });
    expect(await run(name, ...small)).toMatchObject({ code: 0 });
    const page = readFileSync(join(out, "README.md"), "utf8");
    for (const picture of ["recall.svg", "needles.svg"]) expectWellFormed(readFileSync(join(out, picture), "utf8"));
    const right = (spec: string) => Number(new RegExp(`^\\| \`${spec}\` \\| \\d+ \\| (\\d) of 2`, "m").exec(page)![1]);
    expect(right("knn:k=16,window=176")).toBe(2);
    expect(right("blocks:size=16,top=4,local=128,representative=bounds")).toBe(2);
    expect(page).toContain("### tiny: needle");
    // Of a layer, the far mass, what was fetched of it, the error, and the needle's share: none is above 100 %.
    const layers = [...page.matchAll(/^\| (?:found|lost), \d prompts \| (\d) \| (.*) \|$/gm)];
    expect(layers.length).toBeGreaterThanOrEqual(3 * 4);
    for (const [, , cells] of layers)
      for (const share of cells.matchAll(/([\d.]+) %/g)) expect(Number(share[1])).toBeLessThanOrEqual(100);
    const data = join(out, "data");
    const before = readdirSync(data).map((file) => statSync(join(data, file)).mtimeMs);
    expect(await run(name, ...small)).toMatchObject({ code: 0 });
    expect(readdirSync(data).map((file) => statSync(join(data, file)).mtimeMs)).toEqual(before);
    expect(readFileSync(join(out, "README.md"), "utf8")).toBe(page);
  }, 120_000);
});

it("numbers in options are whole", () => {
  expect(wholeNumber("length", "16384")).toBe(16_384);
  for (const text of ["many", "0", "1.5", "", "-3"]) expect(() => wholeNumber("length", text)).toThrow(`"${text}"`);
});
