import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { modelHash } from "../src/files/model-files.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-model-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const write = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

it("is that of the file, where there is one", async () => {
  const path = write("model.gguf", "weights");
  expect(await modelHash(path)).toBe(createHash("sha256").update("weights").digest("hex"));
});

it("is that of all files in a folder that change what a model answers", async () => {
  const weights = write("model.safetensors", "weights");
  write("config.json", "{}");
  const hash = await modelHash(folder);
  expect(await modelHash(weights)).toBe(hash);
  write("README.md", "read me");
  write("model.gguf", "another model");
  expect(await modelHash(folder)).toBe(hash);
  const hashes = [hash];
  // The last one says where answers end.
  for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]) {
    write(name, '{ "changed": true }');
    hashes.push(await modelHash(folder));
  }
  expect(new Set(hashes).size).toBe(5);
});
