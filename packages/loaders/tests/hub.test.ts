import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LongctxError } from "@longctx/core";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { DownloadProgress } from "../src/download/options.ts";
import { parseHubReference } from "../src/download/hub.ts";
import { resolveModel } from "../src/download/resolve-model.ts";
import { StandInHub, type StandInFile } from "./stand-in-hub.ts";

const sha256 = (content: Buffer) => createHash("sha256").update(content).digest("hex");

let hub: StandInHub;
let cache: string;
beforeEach(async () => {
  cache = mkdtempSync(join(tmpdir(), "longctx-cache-"));
  vi.stubEnv("LONGCTX_CACHE", cache);
  vi.stubEnv("HF_TOKEN", undefined);
  hub = await new StandInHub().start();
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  rmSync(cache, { recursive: true });
});

const offer = (path: string, size: number, changes: Partial<StandInFile> = {}): Buffer => {
  const content = randomBytes(size);
  hub.files.set(path, { content, sha256: sha256(content), ...changes });
  return content;
};
const fetched = (reference: string, options = {}) =>
  resolveModel(reference, { hubUrl: hub.url, retries: 0, ...options });
const failure = async (answer: Promise<unknown>): Promise<string> => {
  const error: unknown = await answer.then(
    () => new Error("no error"),
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LongctxError);
  expect((error as Error).message).not.toContain("\n");
  return `${(error as LongctxError).code}: ${(error as Error).message}`;
};
const inCache = (file: string) => join(cache, "hub", "org", "name", "main", file);

describe("one file of a repository", () => {
  const GGUF = "hf:org/name/model.Q4_1.gguf";

  it("is fetched once, with progress", async () => {
    const content = offer("model.Q4_1.gguf", 300_000);
    offer("other.gguf", 10);
    const progress: DownloadProgress[] = [];
    const path = await fetched(GGUF, { onProgress: (step: DownloadProgress) => progress.push(step) });
    expect(path).toBe(inCache("model.Q4_1.gguf"));
    expect(readFileSync(path).equals(content)).toBe(true);
    expect(progress.at(-1)).toEqual({ file: "model.Q4_1.gguf", received: 300_000, total: 300_000 });
    expect(progress.map(({ received }) => received)).toEqual(
      progress.map(({ received }) => received).toSorted((a, b) => a - b),
    );
    const before = hub.requests.length;
    expect(await fetched(GGUF)).toBe(path);
    expect(await fetched(GGUF, { offline: true })).toBe(path);
    expect(hub.requests.length).toBe(before);
  });

  it("may be in a folder", async () => {
    const content = offer("quantised/model.gguf", 100);
    expect(readFileSync(await fetched("hf:org/name/quantised/model.gguf")).equals(content)).toBe(true);
  });

  it("goes on where an interrupted download stopped", async () => {
    const content = offer("model.Q4_1.gguf", 200_000, { cuts: [70_000] });
    expect(await failure(fetched(GGUF))).toMatch(/^network: Cannot fetch .*model\.Q4_1\.gguf: .*Run it again/);
    const held = statSync(`${inCache("model.Q4_1.gguf")}.part`).size;
    expect(held).toBeGreaterThan(0);
    expect(existsSync(inCache("model.Q4_1.gguf"))).toBe(false);
    expect(readFileSync(await fetched(GGUF)).equals(content)).toBe(true);
    expect(hub.requests.at(-1)).toBe(`/org/name/resolve/main/model.Q4_1.gguf bytes=${held}-`);
  });

  it("tries again by itself", async () => {
    const content = offer("model.Q4_1.gguf", 200_000, { cuts: [70_000] });
    expect(readFileSync(await fetched(GGUF, { retries: 1 })).equals(content)).toBe(true);
  });

  it("starts over where the server cannot go on", async () => {
    const content = offer("model.Q4_1.gguf", 200_000, { cuts: [70_000], noRanges: true });
    await failure(fetched(GGUF));
    expect(readFileSync(await fetched(GGUF)).equals(content)).toBe(true);
  });

  it("is not kept with a wrong hash or size", async () => {
    offer("model.Q4_1.gguf", 1000, { sha256: "0".repeat(64) });
    expect(await failure(fetched(GGUF))).toMatch(/^network: .*its SHA-256 is [0-9a-f]{64}, not 0{64}/);
    offer("model.Q4_1.gguf", 1000, { listedSize: 900 });
    expect(await failure(fetched(GGUF))).toMatch(/^network: .*more than 900 bytes/);
    offer("model.Q4_1.gguf", 1000, { listedSize: 1100 });
    expect(await failure(fetched(GGUF))).toMatch(
      /^network: .*it has 1000 bytes, not 1100|broke off after 1000 of 1100/,
    );
    expect(existsSync(inCache("model.Q4_1.gguf"))).toBe(false);
  });

  it("drops a part that belongs to another file", async () => {
    const content = offer("model.Q4_1.gguf", 1000, { cuts: [400] });
    await failure(fetched(GGUF));
    const part = `${inCache("model.Q4_1.gguf")}.part`;
    writeFileSync(part, Buffer.alloc(statSync(part).size));
    expect(await failure(fetched(GGUF))).toMatch(/SHA-256/);
    expect(existsSync(part)).toBe(false);
    expect(readFileSync(await fetched(GGUF)).equals(content)).toBe(true);
  });

  it("stops on the signal and goes on later", async () => {
    const content = offer("model.Q4_1.gguf", 5_000_000);
    const stop = new AbortController();
    expect(await failure(fetched(GGUF, { signal: stop.signal, onProgress: () => stop.abort() }))).toMatch(/^aborted: /);
    expect(await failure(fetched(GGUF, { signal: AbortSignal.abort() }))).toMatch(/^aborted: /);
    expect(readFileSync(await fetched(GGUF)).equals(content)).toBe(true);
  });

  it("that is not there is said so, with those that are", async () => {
    offer("model.Q8_0.gguf", 10);
    expect(await failure(fetched(GGUF))).toMatch(/^argument: .*model\.Q8_0\.gguf/);
  });
});

describe("a checkpoint", () => {
  const offerDescriptions = () => {
    for (const file of ["config.json", "tokenizer.json", "README.md", "pytorch_model.bin", "onnx/model.onnx"])
      offer(file, 50, { sha256: undefined });
  };

  it("is its descriptions and all shards", async () => {
    offerDescriptions();
    for (const file of ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]) offer(file, 2000);
    offer("model.safetensors.index.json", 60, { sha256: undefined });
    const directory = await fetched("hf:org/name");
    const kept = [
      "config.json",
      "tokenizer.json",
      "model.safetensors.index.json",
      "model-00001-of-00002.safetensors",
      "model-00002-of-00002.safetensors",
    ];
    for (const file of kept)
      expect(readFileSync(join(directory, file)).equals(hub.files.get(file)!.content)).toBe(true);
    expect(hub.requests.filter((path) => path.includes("/resolve/")).length).toBe(kept.length);
    const before = hub.requests.length;
    expect(await fetched("hf:org/name@main")).toBe(directory);
    expect(hub.requests.length).toBe(before);
  });

  it("is asked for again until it is whole", async () => {
    offerDescriptions();
    offer("model.safetensors", 90_000, { cuts: [10_000] });
    await failure(fetched("hf:org/name"));
    expect(await failure(fetched("hf:org/name", { offline: true }))).toMatch(
      /^network: hf:org\/name@main is not in the cache/,
    );
    const asked = hub.requests.filter((path) => path.includes("config.json")).length;
    await fetched("hf:org/name");
    expect(hub.requests.filter((path) => path.includes("config.json")).length).toBe(asked);
  });

  it("without safetensors is refused, naming its .gguf files", async () => {
    offer("a.gguf", 10);
    expect(await failure(fetched("hf:org/name"))).toMatch(/^argument: .*no model\.safetensors.*a\.gguf/);
  });

  it("that does not exist, or a hub that does not answer, is one line", async () => {
    expect(await failure(fetched("hf:org/missing"))).toMatch(/^network: .*no such model or revision \(404\)/);
    const gone = hub.url;
    await hub.stop();
    expect(await failure(resolveModel("hf:org/name", { hubUrl: gone, retries: 0 }))).toMatch(
      /^network: Cannot fetch hf:org\/name@main from http:\/\/127\.0\.0\.1:\d+: .*ECONNREFUSED/,
    );
    hub = await new StandInHub().start();
  });
});

describe("references", () => {
  it("are read", () => {
    expect(parseHubReference("hf:org/name")).toEqual({ repository: "org/name", file: null, revision: "main" });
    expect(parseHubReference("hf:org/na.me/sub/file.gguf@refs/pr/1")).toEqual({
      repository: "org/na.me",
      file: "sub/file.gguf",
      revision: "refs/pr/1",
    });
  });

  it.each([
    "hf:",
    "hf:name",
    "hf:org/name/../../etc.gguf",
    "hf:org/..",
    "hf:org/name@..",
    "hf:org/name/file.bin",
    "hf:org/name?x=1",
  ])("%s is refused", (reference) => {
    expect(() => parseHubReference(reference)).toThrow(LongctxError);
  });

  it("that are paths are answered as they are, and use no network", async () => {
    expect(await resolveModel(cache)).toBe(cache);
    expect(await failure(resolveModel(join(cache, "nothing")))).toMatch(/^file: There is no model at/);
    expect(hub.requests).toEqual([]);
  });
});
