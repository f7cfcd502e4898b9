import * as fc from "fast-check";
import type { Tokenizer } from "@longctx/core";
import { describe, expect, it } from "vitest";
import { tokenizerFromGguf } from "../src/gguf-tokenizer.ts";
import { textStream } from "../src/text-stream.ts";
import type { GgufValue } from "../src/gguf-value.ts";
import { golden } from "./golden.ts";

interface Cases {
  tokens: string[];
  merges: string[];
  scores: number[];
  types: number[];
}
const load = (metadata: Record<string, GgufValue>) =>
  tokenizerFromGguf(new Map(Object.entries(metadata).map(([key, value]) => [`tokenizer.ggml.${key}`, value])))
    .tokenizer;
const bytes = golden("byte-level-cases.json") as Cases;
const pieces = golden("sentencepiece-cases.json") as Cases;
const byteLevel = load({
  model: "gpt2",
  pre: "gpt-2",
  tokens: bytes.tokens,
  merges: bytes.merges,
  token_type: bytes.tokens.map((_, id) => (id < 3 ? 3 : 1)),
});
const sentencePiece = load({
  model: "llama",
  tokens: pieces.tokens,
  scores: pieces.scores,
  token_type: pieces.types,
  unknown_token_id: 0,
  bos_token_id: 1,
});

const streamed = (tokenizer: Tokenizer, ids: readonly number[], options = {}) => {
  const stream = textStream(tokenizer, options);
  return [...ids.map((id) => stream.push(id)), stream.flush()];
};

describe.each([
  ["byte-level", byteLevel],
  ["SentencePiece", sentencePiece],
] as const)("%s", (_, tokenizer) => {
  it("gives out all text, and never half a character", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 40 }), (text) => {
        const ids = tokenizer.encode(text, { special: false });
        const parts = streamed(tokenizer, ids);
        expect(parts.join("")).toBe(tokenizer.decode(ids));
        const broken = parts.some((part) => part.includes("\uFFFD"));
        expect(broken).toBe(tokenizer.decode(ids).includes("\uFFFD"));
        for (const part of parts) expect(part).not.toMatch(/\p{Surrogate}/u);
      }),
      { numRuns: 300 },
    );
  });

  it("gives out what any ids decode to", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(tokenizer.vocabSize + 5), { maxLength: 60 }), fc.boolean(), (ids, skipSpecial) => {
        expect(streamed(tokenizer, ids, { skipSpecial }).join("")).toBe(tokenizer.decode(ids, { skipSpecial }));
      }),
      { numRuns: 300 },
    );
  });
});

it("gives ASCII out at once and waits for what may still grow", () => {
  const ids = Array.from("to 👍🏽, é").flatMap((character) => byteLevel.encode(character));
  const parts = streamed(byteLevel, ids);
  expect(parts.slice(0, 3)).toEqual(["t", "o", " "]);
  expect(parts.filter((part) => part !== "")).toEqual(["t", "o", " ", "👍🏽,", " ", "é"]);
});

it("keeps the first space of a SentencePiece text that goes on", () => {
  const [hello, world] = ["It", "It is"].map((text) => sentencePiece.encode(text, { special: false }));
  const rest = world.slice(hello.length);
  expect(streamed(sentencePiece, rest).join("")).toBe("is");
  expect(streamed(sentencePiece, rest, { after: hello }).join("")).toBe(" is");
});

it("starts anew after flush", () => {
  const stream = textStream(byteLevel);
  const [first, ...others] = byteLevel.encode("é");
  expect(stream.push(first)).toBe("");
  expect(stream.flush()).toBe(others.length ? "\uFFFD" : "é");
  expect(stream.push(byteLevel.encode("a")[0])).toBe("a");
});
