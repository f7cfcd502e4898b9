import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LongctxError } from "@longctx/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadTokenizerFolder } from "../src/tokenizer-folder.ts";
import { tokenizerFromJson } from "../src/tokenizer.ts";
import { golden } from "./golden.ts";

interface Kind {
  json: Record<string, unknown> & { model: Record<string, unknown> };
  ids: number[][];
  decoded: string[];
}
const { texts, ...kinds } = golden<{ texts: string[] } & Record<string, Kind>>("folder-cases.json") as unknown as { texts: string[] } & Record<string, Kind>;

/** Where @huggingface/tokenizers still answers otherwise than the Rust library. */
const KNOWN_DIFFERENCES: Readonly<Record<string, readonly string[]>> = {};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "longctx-tokenizer-"));
});
afterEach(() => rmSync(directory, { recursive: true }));
const put = (name: string, content: unknown) => writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
const failure = () => {
  try {
    loadTokenizerFolder(directory);
  } catch (error) {
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as Error).message).not.toContain("\n");
    expect((error as Error).message).toContain(directory);
    return `${(error as LongctxError).code}: ${(error as Error).message}`;
  }
  return "no error";
};

describe("tokenizer.json", () => {
  it.each(Object.keys(kinds))("%s answers as the Rust library does", (name) => {
    const { json, ids, decoded } = kinds[name]!;
    const tokenizer = tokenizerFromJson(json, name);
    for (const [index, text] of texts.entries()) {
      if (KNOWN_DIFFERENCES[name]?.includes(text)) continue;
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids[index]);
      expect(tokenizer.decode(ids[index]!), JSON.stringify(text)).toBe(decoded[index]);
    }
  });
});
