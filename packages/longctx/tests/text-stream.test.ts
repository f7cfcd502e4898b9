import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { textStream, type TextStreamOptions, type Tokenizer } from "@longctx/core";
import { tokenizerFromGguf, type GgufValue } from "@longctx/loaders";

interface Cases {
  tokens: string[];
  merges: string[];
  scores: number[];
  types: number[];
}
const golden = (name: string) =>
  JSON.parse(readFileSync(new URL(`../../loaders/tests/golden/${name}`, import.meta.url), "utf8")) as Cases;
const load = (metadata: Record<string, GgufValue>) =>
  tokenizerFromGguf(new Map(Object.entries(metadata).map(([key, value]) => [`tokenizer.ggml.${key}`, value])))
    .tokenizer;
const bytes = golden("byte-level-cases.json");
const pieces = golden("sentencepiece-cases.json");
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

const streamed = (tokenizer: Tokenizer, ids: readonly number[], options: TextStreamOptions = {}) => {
  const stream = textStream(tokenizer, options);
  return [...ids.map((id) => stream.push(id)), stream.flush()];
};

/** The text before the stop text that is complete first, read one character after another. */
function cutAt(text: string, stop: readonly string[]): [string, boolean] {
  for (let end = 1; end <= text.length; end++) {
    const met = stop.filter((one) => one !== "" && text.slice(0, end).endsWith(one));
    if (met.length > 0) return [text.slice(0, end - Math.max(...met.map((one) => one.length))), true];
  }
  return [text, false];
}

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

  it("ends before the first stop text, wherever tokens begin and end", () => {
    const words = fc.string({ unit: fc.constantFrom("a", "b", "\n", " ", "é", "👍"), maxLength: 24 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b", "\n", "é"), maxLength: 4 }), { maxLength: 3 });
    fc.assert(
      fc.property(words, stops, (text, stop) => {
        const ids = tokenizer.encode(text, { special: false });
        const stream = textStream(tokenizer, { stop });
        let out = "";
        for (const id of ids) {
          const { stopped } = stream;
          const part = stream.push(id);
          expect(stopped && part !== "").toBe(false);
          out += part;
        }
        out += stream.flush();
        expect([out, stream.stopped]).toEqual(cutAt(tokenizer.decode(ids), stop));
      }),
      { numRuns: 500 },
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

it("gives nothing out twice or too early around a stop text", () => {
  const letters = (text: string) => Array.from(text).flatMap((letter) => byteLevel.encode(letter));
  const parts = (text: string, stop: readonly string[]) => streamed(byteLevel, letters(text), { stop });
  expect(parts("ab</x", ["</s>"])).toEqual(["a", "b", "", "", "</x", ""]);
  expect(parts("ab</", ["</s>"])).toEqual(["a", "b", "", "", "</"]);
  expect(parts("ab</s>c", ["</s>"])).toEqual(["a", "b", "", "", "", "", "", ""]);
  expect(parts("aab", ["aab"]).join("")).toBe("");
  expect(parts("aaab", ["aab"]).join("")).toBe("a");
});

it("starts anew after flush", () => {
  const stream = textStream(byteLevel);
  const [first, ...others] = byteLevel.encode("é");
  expect(stream.push(first)).toBe("");
  expect(stream.flush()).toBe(others.length ? "\uFFFD" : "é");
  expect(stream.push(byteLevel.encode("a")[0])).toBe("a");
});
