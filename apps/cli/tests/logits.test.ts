import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readGolden } from "../../../packages/longctx/tests/read-golden.ts";
import { cli, LLAMA, spawnCli } from "./command-line.ts";

interface Written {
  readonly ids: readonly number[];
  readonly logits: readonly (readonly number[])[];
}

const folder = mkdtempSync(join(tmpdir(), "longctx-logits-"));
const [short, long] = (await readGolden("llama")).cases;
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function commandLine(name: string, ids: readonly number[], ...more: string[]): string[] {
  writeFileSync(join(folder, "ids.json"), JSON.stringify(ids));
  return [
    "logits",
    LLAMA,
    "--ids",
    join(folder, "ids.json"),
    "--out",
    join(folder, name),
    "--device",
    "reference",
    ...more,
  ];
}

async function logits(name: string, ids: readonly number[], ...more: string[]): Promise<Written> {
  expect(await cli(commandLine(name, ids, ...more))).toMatchObject({ code: 0, out: "", err: "" });
  return JSON.parse(readFileSync(join(folder, name), "utf8")) as Written;
}

function largestDifference(rows: Written["logits"], expected: Float32Array): number {
  return rows.flat().reduce((largest, value, i) => Math.max(largest, Math.abs(value - expected[i])), 0);
}

describe("longctx logits", () => {
  it.each(["reference", "cpu"])(
    "writes the rows that transformers computes, past the trained window too: %s",
    async (device) => {
      const written = await logits("all.json", long.ids, "--device", device);
      expect(written.ids).toEqual(long.ids);
      expect(written.logits).toHaveLength(160);
      expect(largestDifference(written.logits, long.logits)).toBeLessThan(1e-3);
    },
  );

  it("--last writes the last rows, whatever the chunk", async () => {
    const { logits: rows } = await logits("last.json", short.ids, "--last", "5", "--chunk", "3");
    expect(rows).toHaveLength(5);
    expect(largestDifference(rows, short.logits.subarray(43 * 256))).toBeLessThan(1e-3);
    expect((await logits("more.json", short.ids, "--last", "1000")).logits).toHaveLength(48);
  });

  it("--method changes the logits, and --trained-window the method", async () => {
    const plain = short.logits;
    const dynamic = (window: string) =>
      logits("method.json", short.ids, "--method", "dynamic-ntk:factor=2", "--trained-window", window);
    expect(largestDifference((await dynamic("48")).logits, plain)).toBeLessThan(1e-3);
    expect(largestDifference((await dynamic("16")).logits, plain)).toBeGreaterThan(1e-3);
  });

  it("replaces a file that is there, and leaves nothing half written", async () => {
    writeFileSync(join(folder, "there.json"), "old");
    expect((await logits("there.json", short.ids)).ids).toEqual(short.ids);

    const controller = new AbortController();
    controller.abort();
    writeFileSync(join(folder, "kept.json"), "old");
    const stopped = await cli(commandLine("kept.json", short.ids), { signal: controller.signal });
    expect(stopped.code).toBe(130);
    expect(stopped.err).toMatch(/^longctx: [^\n]+\n$/);
    expect(readFileSync(join(folder, "kept.json"), "utf8")).toBe("old");
    expect(readdirSync(folder).filter((name) => name.includes("partial"))).toEqual([]);
  });

  it("takes paths relative to where the user is", async () => {
    writeFileSync(join(folder, "near.json"), JSON.stringify(short.ids));
    const outcome = await spawnCli(
      ["logits", LLAMA, "--ids", "near.json", "--out", "made.json", "--device", "reference"],
      folder,
    );
    expect(outcome).toMatchObject({ code: 0, out: "", err: "" });
    const { logits: rows } = JSON.parse(readFileSync(join(folder, "made.json"), "utf8")) as Written;
    expect(largestDifference(rows, short.logits)).toBeLessThan(1e-3);
  });
});
