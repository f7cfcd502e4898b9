import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LongctxError } from "@longctx/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadTokenizerFolder } from "../src/checkpoint/disk.ts";
import { tokenizerFromJson } from "../src/tokenizer/tokenizer.ts";
import { golden } from "./golden.ts";

interface Kind {
  json: Record<string, unknown> & { model: Record<string, unknown> };
  ids: number[][];
  decoded: string[];
}
const { texts, ...kinds } = golden("folder-cases.json") as { texts: string[] } & Record<string, Kind>;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "longctx-tokenizer-"));
});
afterEach(() => rmSync(directory, { recursive: true }));
const put = (name: string, content: unknown) =>
  writeFileSync(join(directory, name), typeof content === "string" ? content : JSON.stringify(content));
const failure = async () => {
  try {
    await loadTokenizerFolder(directory);
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
    const { json, ids, decoded } = kinds[name];
    const tokenizer = tokenizerFromJson(json, name);
    for (const [index, text] of texts.entries()) {
      const answer = { text, ids: tokenizer.encode(text), decoded: tokenizer.decode(ids[index]) };
      expect(answer).toEqual({ text, ids: ids[index], decoded: decoded[index] });
    }
  });
});

describe("a checkpoint folder", () => {
  // A tokenizer small enough to read: bytes are characters, "ab" is merged, <s> and </s> are special.
  const small = {
    model: { type: "BPE", vocab: { "<s>": 0, "</s>": 1, a: 2, b: 3, ab: 4, Ġ: 5 }, merges: ["a b"] },
    added_tokens: [
      { id: 0, content: "<s>", special: true },
      { id: 1, content: "</s>", special: true },
    ],
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    decoder: { type: "ByteLevel" },
  };

  it("without tokenizer.json has no tokenizer", async () => expect(await loadTokenizerFolder(directory)).toBeNull());

  it("needs no other file", async () => {
    put("tokenizer.json", small);
    const { tokenizer, chatTemplate } = (await loadTokenizerFolder(directory))!;
    expect(tokenizer.encode("<s>ab a")).toEqual([0, 4, 5, 2]);
    expect(tokenizer.vocabSize).toBe(6);
    expect(chatTemplate).toBeNull();
  });

  it("takes BOS and EOS from the config of the classes that do", async () => {
    put("tokenizer.json", small);
    const config = { bos_token: { content: "<s>" }, eos_token: "</s>", add_bos_token: true, add_eos_token: true };
    put("tokenizer_config.json", { ...config, tokenizer_class: "LlamaTokenizerFast" });
    expect((await loadTokenizerFolder(directory))!.tokenizer.encode("ab")).toEqual([0, 4, 1]);
    put("tokenizer_config.json", { ...config, tokenizer_class: "PreTrainedTokenizerFast" });
    expect((await loadTokenizerFolder(directory))!.tokenizer.encode("ab")).toEqual([4]);
  });

  it("prefers chat_template.jinja to the config, and of several templates the default", async () => {
    put("tokenizer.json", small);
    put("special_tokens_map.json", { bos_token: "<s>" });
    put("tokenizer_config.json", {
      chat_template: [
        { name: "tool_use", template: "no" },
        { name: "default", template: "{{ bos_token }}{{ messages[0].content }}" },
      ],
    });
    expect((await loadTokenizerFolder(directory))!.chatTemplate!([{ role: "user", content: "Hi" }])).toBe("<s>Hi");
    put("chat_template.jinja", "{{ messages[0].role }}");
    expect((await loadTokenizerFolder(directory))!.chatTemplate!([{ role: "user", content: "Hi" }])).toBe("user");
  });

  it.each([
    ["{", /is not JSON/],
    ["[]", /holds no JSON object/],
    [{}, /"model" is missing/],
    [{ model: { type: "Klingon", vocab: {} } }, /"model.type" is "Klingon"/],
    [{ model: { type: "BPE", vocab: { a: -1 }, merges: [] } }, /the id of "a" is -1/],
    [{ model: { type: "BPE", vocab: { a: 1e9 }, merges: [] } }, /the id of "a" is 1000000000/],
    [{ model: { type: "BPE", vocab: { a: 0 } } }, /"model.merges" is missing/],
    [{ model: { type: "BPE", vocab: { a: 0 }, merges: ["a", 3] } }, /"model.merges" holds "a"/],
    [{ model: { type: "Unigram", vocab: [["a"]] } }, /"model.vocab" holds \["a"\]/],
    [{ model: { type: "Unigram", vocab: [["a", 0]], unk_id: 7 } }, /"model.unk_id" is 7/],
    [{ ...small, added_tokens: [{ content: "<s>" }] }, /the id of "<s>" is missing/],
    [{ ...small, decoder: "ByteLevel" }, /"decoder" is "ByteLevel"/],
    [{ ...small, pre_tokenizer: { type: "Klingon" } }, /cannot be built: Unknown PreTokenizer type: Klingon/],
    [
      { ...small, pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } },
      /cannot be built: Invalid regular expression/,
    ],
  ])("refuses the tokenizer.json %j", async (content, message) => {
    put("tokenizer.json", content);
    expect(await failure()).toMatch(/^file: /);
    expect(await failure()).toMatch(message);
  });

  it("refuses a broken tokenizer_config.json", async () => {
    put("tokenizer.json", small);
    put("tokenizer_config.json", "{");
    expect(await failure()).toMatch(/^file: .*tokenizer_config\.json is not JSON/);
  });
});
