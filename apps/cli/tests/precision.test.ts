import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { withBytes } from "./broken-checkpoints.ts";
import { cli, LLAMA } from "./command-line.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-precision-"));
const ids = join(folder, "ids.json");
writeFileSync(ids, JSON.stringify(Array.from({ length: 20 }, (_, i) => (7 * i) % 30)));
afterAll(() => rmSync(folder, { recursive: true }));

describe("longctx precision", () => {
  it("compares the cpu with the reference, layer by layer", async () => {
    const argv = ["precision", LLAMA, "--ids", ids, "--length", "12", "--device", "cpu", "--precision", "exact"];
    const { code, out } = await cli([...argv, "--json"]);
    expect(code).toBe(0);
    const { results } = JSON.parse(out) as { results: { tokens: number; hidden: object[]; logits: { rms: number } }[] };
    expect(results).toHaveLength(1);
    expect(results[0]).toMatchObject({ device: "cpu", precision: "exact", tokens: 12, sameTop: 12 });
    expect(results[0].logits.rms).toBeLessThan(1e-5);
    const table = await cli([...argv, "--markdown"]);
    const rows = table.out.trimEnd().split("\n");
    expect(rows).toHaveLength(2 + results[0].hidden.length + 2);
    expect(rows.slice(0, 3)).toEqual([
      "|  | cpu exact, largest | RMS |",
      "|---|---|---|",
      "| embedding | 0.0e+0 | 0.0e+0 |",
    ]);
    expect(rows.at(-1)).toBe("| likeliest token equal | 12 of 12 |  |");
  });

  it.each([
    ["neither a text nor ids", [LLAMA], /reads a text or --ids/],
    ["a precision that is none", [LLAMA, "--ids", "ids.json", "--precision", "exact,double"], /"double"/],
    ["a text for a model without a tokenizer", [LLAMA, ids], /tokenizer/],
  ])("refuses %s in one line", async (_, argv, message) => {
    const { code, out, err } = await cli(["precision", ...argv]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(message);
    expect(err.trimEnd().split("\n")).toHaveLength(1);
  });

  it("refuses weights that make the reference overflow", async () => {
    const path = withBytes(folder, "not-a-number", (bytes) => {
      bytes.writeFloatLE(NaN, bytes.length - 4);
      return bytes;
    });
    const { code, out, err } = await cli(["precision", path, "--ids", ids, "--length", "4", "--device", "cpu"]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toMatch(/holds NaN at token \d already in the reference/);
  });
});
