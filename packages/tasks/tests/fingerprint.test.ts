import { expect, it } from "vitest";
import { tokenizerFromJson } from "@longctx/loaders";
import { needleTask, tokenizerFingerprint } from "../src/index.ts";

/** Words with the ids from 0 on, and an added token that may lie beyond them. */
function tokenizer(words: readonly string[], added?: { readonly id: number; readonly content: string }) {
  return tokenizerFromJson(
    {
      model: { type: "WordPiece", vocab: Object.fromEntries(words.map((word, id) => [word, id])), unk_token: "[UNK]" },
      added_tokens: added ? [{ ...added, special: true, normalized: false }] : [],
      pre_tokenizer: { type: "Whitespace" },
    },
    "a test",
  );
}

const WORDS = ["[UNK]", "remember", "amber", "walnut"];

it("differs by the vocabulary, and by the place of its tokens", () => {
  const prints = [
    tokenizer(WORDS),
    tokenizer([...WORDS.slice(0, 2), "walnut", "amber"]),
    tokenizer([...WORDS, "jade"]),
    tokenizer(WORDS, { id: 4, content: "<end>" }),
    tokenizer(WORDS, { id: 9, content: "<end>" }),
  ].map(tokenizerFingerprint);
  expect(new Set(prints).size).toBe(prints.length);
  expect(tokenizerFingerprint(tokenizer(WORDS))).toBe(prints[0]);
});

it("takes ids without a token as they are: added tokens lie beyond a gap", () => {
  const gapped = tokenizer(WORDS, { id: 9, content: "<end>" });
  expect(gapped.vocabSize).toBe(10);
  expect(() => gapped.token(7)).toThrow(/No token has the id 7/);
  expect(() => needleTask().bind(gapped)).not.toThrow();
});
