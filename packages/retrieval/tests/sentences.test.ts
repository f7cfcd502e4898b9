import { describe, expect, it } from "vitest";
import type { Tokenizer } from "@longctx/core";
import { TINY_MODEL } from "@longctx/tiny";
import { openCheckpoint } from "@longctx/loaders";
import { sentenceSpans, splitSentences } from "../src/index.ts";

/** A token for each byte of UTF-8, so that characters beyond ASCII take several tokens. */
const bytes: Tokenizer = {
  vocabSize: 256,
  encode: (text) => [...new TextEncoder().encode(text)],
  decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids)),
  token: (id) => String(id),
};

describe("splitSentences", () => {
  it.each([
    [
      "prose, with titles, initials and speech",
      ["Mr. Bennet and J. Smith came. ", "“Oh!” ", "Said she, 3.5 miles. ", "It was 5 p.m. on Friday. ", "They left."],
    ],
    [
      "wrapped lines, a heading and paragraphs",
      [
        "CHAPTER 1\n\n",
        "It is a truth universally acknowledged, that a single man\r\nin possession of a fortune must be in want of a wife. ",
        "However\nlittle known.\n\n",
        "A new paragraph without a full stop\n\n",
        "The end",
      ],
    ],
    ["lines of a list", ["- apples\n", "- pears\n", "- two plums\n", "And so on."]],
    [
      "text without capitals",
      ["the sailor sang near the mill . ", "remember : amber walnut . ", "a child ran past . ", "remember : amber"],
    ],
    [
      "abbreviations at a line's end",
      ["In the evening of the same day she met Mrs.\nBennet at four in the afternoon on Monday. ", "He left."],
    ],
  ])("splits %s, and loses nothing", (_, sentences) => {
    expect(splitSentences(sentences.join(""))).toEqual(sentences);
  });

  it("makes nothing of nothing", () => {
    expect(splitSentences("")).toEqual([]);
    expect(splitSentences("\n\n").join("")).toBe("\n\n");
  });
});

describe("sentenceSpans", () => {
  const textsOf = (tokenizer: Tokenizer, ids: readonly number[]) => {
    const spans = sentenceSpans(tokenizer, ids);
    // Consecutive and complete.
    expect(spans.map(({ from }) => from)).toEqual(
      [0, ...spans.slice(0, -1).map(({ to }) => to)].slice(0, spans.length),
    );
    expect(spans.at(-1)?.to ?? 0).toBe(ids.length);
    return spans.map(({ from, to }) => tokenizer.decode(ids.slice(from, to)));
  };

  it("follows characters of several tokens, and quotation marks at the end of a sentence", () => {
    const sentences = ["He cried “Ça va?” ", "Élodie – the 猫 – slept. ", "“No.” ", "Done 👩‍🚀"];
    const ids = bytes.encode(sentences.join(""));
    expect(textsOf(bytes, ids)).toEqual(sentences);
    // A text that is cut within a character keeps its broken end.
    expect(sentenceSpans(bytes, ids.slice(0, -2)).at(-1)!.to).toBe(ids.length - 2);
  });

  it("follows a decoder that takes spaces away", async () => {
    const checkpoint = await openCheckpoint(TINY_MODEL);
    checkpoint.close();
    const tokenizer = checkpoint.tokenizer!;
    const ids = tokenizer.encode("the sailor slept near the mill . remember : amber walnut . a child ran past .");
    expect(textsOf(tokenizer, ids)).toEqual([
      "the sailor slept near the mill.",
      "remember : amber walnut.",
      "a child ran past.",
    ]);
  });

  it("puts tokens without text into a sentence", () => {
    expect(sentenceSpans({ ...bytes, decode: () => "" }, [1, 2])).toEqual([{ from: 0, to: 2 }]);
    expect(sentenceSpans(bytes, [])).toEqual([]);
  });
});
