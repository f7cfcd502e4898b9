import { LongctxError } from "@longctx/core";
import { describe, expect, it } from "vitest";
import { tokenizerFromGguf } from "../src/gguf/tokenizer.ts";
import type { GgufValue } from "../src/gguf/reader.ts";
import { golden } from "./golden.ts";

type Metadata = Record<string, GgufValue>;
const load = (metadata: Metadata) =>
  tokenizerFromGguf(new Map(Object.entries(metadata).map(([key, value]) => [`tokenizer.${key}`, value])));
const failure = (metadata: Metadata) => {
  try {
    load(metadata);
  } catch (error) {
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as Error).message).not.toContain("\n");
    return `${(error as LongctxError).code}: ${(error as Error).message}`;
  }
  return "no error";
};

type ByteLevelCases = { tokens: string[]; merges: string[]; special: string[]; texts: string[] } & Record<
  string,
  number[][]
>;
const byteLevel = golden("byte-level-cases.json") as ByteLevelCases;
const gpt2 = (changes: Metadata = {}): Metadata => ({
  "ggml.model": "gpt2",
  "ggml.pre": "gpt-2",
  "ggml.tokens": byteLevel.tokens,
  "ggml.merges": byteLevel.merges,
  "ggml.token_type": Int32Array.from(byteLevel.tokens, (token) => (byteLevel.special.includes(token) ? 3 : 1)),
  "ggml.bos_token_id": 1,
  "ggml.eos_token_id": 2,
  ...changes,
});

describe("byte-level BPE from GGUF metadata", () => {
  const names = Object.keys(byteLevel)
    .filter((key) => key.startsWith("ids of "))
    .map((key) => key.slice("ids of ".length));

  it.each(names)("%s splits as the Rust tokenizers do", (pre) => {
    const { tokenizer } = load(gpt2({ "ggml.pre": pre }));
    for (const [index, text] of byteLevel.texts.entries()) {
      const ids = tokenizer.encode(text, { special: false });
      expect({ text, ids }).toEqual({ text, ids: byteLevel[`ids of ${pre}`][index] });
      const normal = pre === "qwen2" ? text.normalize("NFC") : text;
      expect(tokenizer.decode(ids, { skipSpecial: false })).toBe(normal);
    }
  });

  it("the judged names are told apart by the texts", () => {
    const answers = new Map(names.map((name) => [name, JSON.stringify(byteLevel[`ids of ${name}`])]));
    expect(answers.get("smollm")).not.toBe(answers.get("gpt-2"));
    expect(new Set(answers.values()).size).toBe(
      names.length - 2 /* starcoder is smollm, dbrx is llama-bpe but for its BOS */,
    );
  });

  it("adds the tokens around a text that the file or its pre-tokenizer asks for", () => {
    const around = (changes: Metadata) => load(gpt2(changes)).tokenizer.encode("a");
    const [a] = around({});
    expect(around({})).toEqual([a]);
    expect(around({ "ggml.pre": "llama-bpe" })).toEqual([1, a]);
    expect(around({ "ggml.pre": "llama-bpe", "ggml.add_bos_token": false })).toEqual([a]);
    expect(around({ "ggml.add_bos_token": true, "ggml.add_eos_token": true })).toEqual([1, a, 2]);
    expect(load(gpt2({ "ggml.add_bos_token": true })).tokenizer.encode("a", { special: false })).toEqual([a]);
  });

  it("takes a whole piece as its token where merges are ignored", () => {
    const vocabulary = {
      "ggml.tokens": ["<s>", "a", "b", "c", "abc", "ab"],
      "ggml.merges": ["a b"],
      "ggml.token_type": [3, 1, 1, 1, 1, 1],
      "ggml.bos_token_id": 0,
    };
    expect(load(gpt2({ ...vocabulary, "ggml.pre": "dbrx" })).tokenizer.encode("abc")).toEqual([5, 3]);
    expect(load(gpt2({ ...vocabulary, "ggml.pre": "tekken" })).tokenizer.encode("abc")).toEqual([0, 4]);
  });

  it("reads an impossible id as no token unless it is to be added", () => {
    const none = {
      "ggml.bos_token_id": 2 ** 32 - 1,
      "ggml.padding_token_id": 2n ** 63n,
      chat_template: "{{ bos_token }}|{{ eos_token }}",
    };
    const { tokenizer, chatTemplate } = load(gpt2({ ...none, "ggml.pre": "llama-bpe" }));
    expect(chatTemplate?.([])).toBe("|<|im_end|>");
    expect(tokenizer.encode("a")).toHaveLength(1);
    expect(failure(gpt2({ ...none, "ggml.add_bos_token": true }))).toMatch(/bos_token_id is 4294967295/);
  });

  it("names tokens, counts them, and leaves special ones out of the text", () => {
    const { tokenizer } = load(gpt2());
    expect(tokenizer.vocabSize).toBe(byteLevel.tokens.length);
    expect(tokenizer.token(2)).toBe("<|im_end|>");
    const ids = tokenizer.encode("one<|im_end|>two");
    expect(tokenizer.decode(ids)).toBe("onetwo");
    expect(tokenizer.decode(ids, { skipSpecial: false })).toBe("one<|im_end|>two");
    expect(tokenizer.decode([])).toBe("");
    expect(tokenizer.decode([999_999])).toBe("");
    expect(() => tokenizer.token(999_999)).toThrow(LongctxError);
  });

  it("refuses what it cannot read, in one line", () => {
    expect(failure(gpt2({ "ggml.pre": "klingon" }))).toMatch(
      /^file: GGUF metadata: tokenizer\.ggml\.pre is "klingon".*smollm.*llama-bpe.*qwen2/,
    );
    expect(failure(gpt2({ "ggml.pre": "constructor" }))).toMatch(
      /^file: GGUF metadata: tokenizer\.ggml\.pre is "constructor"/,
    );
    expect(failure(gpt2({ "ggml.model": "bert" }))).toMatch(/^file: .*"bert".*gpt2 and llama/);
    expect(failure(gpt2({ "ggml.merges": ["ab"] }))).toMatch(/^file: GGUF metadata: tokenizer\.ggml\.merges is "ab"/);
    expect(failure(gpt2({ "ggml.tokens": [] }))).toMatch(/^file: GGUF metadata: tokenizer\.ggml\.tokens/);
    expect(failure(gpt2({ "ggml.token_type": new Int32Array(3) }))).toMatch(
      /^file: GGUF metadata: tokenizer\.ggml\.token_type/,
    );
    expect(failure(gpt2({ "ggml.add_bos_token": true, "ggml.bos_token_id": 99_999 }))).toMatch(
      /^file: GGUF metadata: tokenizer\.ggml\.bos_token_id is 99999/,
    );
    expect(failure({})).toMatch(/^file: GGUF metadata: tokenizer\.ggml\.tokens is missing/);
  });
});

describe("SentencePiece BPE from GGUF metadata", () => {
  interface Cases {
    tokens: string[];
    scores: number[];
    types: number[];
    cases: { text: string; ids: number[]; decoded: string }[];
  }
  const pieces = golden("sentencepiece-cases.json") as Cases;
  const llama = (changes: Metadata = {}): Metadata => ({
    "ggml.model": "llama",
    "ggml.tokens": pieces.tokens,
    "ggml.scores": Float32Array.from(pieces.scores),
    "ggml.token_type": Int32Array.from(pieces.types),
    "ggml.bos_token_id": 1,
    "ggml.eos_token_id": 2,
    "ggml.unknown_token_id": 0,
    ...changes,
  });

  it("cuts as sentencepiece does", () => {
    const { tokenizer } = load(llama());
    for (const { text, ids, decoded } of pieces.cases) {
      expect({ text, ids: tokenizer.encode(text, { special: false }), decoded: tokenizer.decode(ids) }).toEqual({
        text,
        ids,
        decoded,
      });
    }
  });

  it("puts BOS and a space in front unless told not to", () => {
    const { tokenizer } = load(llama());
    expect(tokenizer.encode("a")[0]).toBe(1);
    expect(tokenizer.decode(tokenizer.encode("a"))).toBe("a");
    const bare = load(llama({ "ggml.add_space_prefix": false, "ggml.add_bos_token": false })).tokenizer;
    expect(bare.encode("a").map((id) => bare.token(id))).toEqual(["a"]);
    expect(bare.decode(bare.encode(" a"))).toBe(" a");
    expect(bare.encode("<s>a</s>")[0]).toBe(1);
  });

  it("falls back to bytes", () => {
    const { tokenizer } = load(llama());
    const ids = tokenizer.encode("\u{1f9ff}", { special: false });
    expect(ids.map((id) => tokenizer.token(id)).slice(-4)).toEqual(["<0xF0>", "<0x9F>", "<0xA7>", "<0xBF>"]);
    expect(tokenizer.decode(ids)).toBe("\u{1f9ff}");
  });

  it("merges the best piece first and the leftmost of equals, also across spaces when a piece does", () => {
    const tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "aa", "ab", "▁a", "b▁a"];
    const metadata = llama({
      "ggml.tokens": tokens,
      "ggml.scores": [0, 0, 0, -9, -9, -9, -1, -1, -2, -0.5],
      "ggml.token_type": [2, 3, 3, 1, 1, 1, 1, 1, 1, 1],
      "ggml.add_bos_token": false,
    });
    const { tokenizer } = load(metadata);
    const spelled = (text: string) => tokenizer.encode(text).map((id) => tokenizer.token(id));
    expect(spelled("aaab")).toEqual(["▁", "aa", "ab"]);
    expect(spelled("aab")).toEqual(["▁", "aa", "b"]);
    expect(spelled("b a")).toEqual(["▁", "b▁a"]);
    expect(spelled("ac")).toEqual(["▁a", "<unk>"]);
  });

  it("needs scores", () => {
    const { "ggml.scores": _, ...without } = llama();
    expect(failure(without)).toMatch(/^file: GGUF metadata: tokenizer\.ggml\.scores is missing/);
  });
});
