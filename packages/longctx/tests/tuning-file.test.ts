import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { LongctxError } from "@longctx/core";
import { storedTuning } from "../src/platform-node.ts";
import { readTuning, tuningFile, writeTuning } from "../src/tuning-file.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "longctx-tuning-"));
  vi.stubEnv("LONGCTX_CACHE", directory);
  vi.stubEnv("LONGCTX_TUNING", "");
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

const ADAPTER = "vendor / arch / Card 7 (driver 1.2)";

describe("the file of a tuning", () => {
  it("has the adapter's name, and another one for every adapter", () => {
    expect(tuningFile(ADAPTER)).toMatch(/webgpu[/\\]vendor-arch-card-7-driver-1-2-[0-9a-f]{8}\.json$/);
    expect(tuningFile(ADAPTER)).not.toBe(tuningFile(ADAPTER.replace("1.2", "1/2")));
    expect(tuningFile("x".repeat(500)).length - directory.length).toBeLessThan(120);
  });

  it("comes back, is replaced as a whole, and is nothing when there is none", () => {
    expect(readTuning(ADAPTER)).toBeNull();
    writeTuning(ADAPTER, { a: 1 });
    const path = writeTuning(ADAPTER, { b: 2 });
    expect(readTuning(ADAPTER)).toEqual({ b: 2 });
    expect(readdirSync(dirname(path))).toHaveLength(1);
  });

  it("that is broken is an error with its name", () => {
    const path = tuningFile(ADAPTER);
    mkdirSync(dirname(path), { recursive: true });
    for (const text of ["{", "1".repeat(2 ** 20 + 1)]) {
      writeFileSync(path, text);
      expect(() => readTuning(ADAPTER)).toThrow(LongctxError);
      expect(() => readTuning(ADAPTER)).toThrow(path);
    }
    expect(() => readTuning(ADAPTER)).toThrow(/1048577 bytes/);
  });

  it("that is named has to be there, and nobody is told instead", () => {
    expect(storedTuning().onTuningProblem).toBeDefined();
    vi.stubEnv("LONGCTX_TUNING", join(directory, "mine.json"));
    expect(storedTuning().onTuningProblem).toBeUndefined();
    expect(() => readTuning(ADAPTER)).toThrow(/mine\.json cannot be read/);
    writeTuning(ADAPTER, { c: 3 });
    expect(readTuning("any")).toEqual({ c: 3 });
  });
});
