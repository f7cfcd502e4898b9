import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { pieceTokenizer } from "../../core/tests/scripted-backend.ts";
import { sentencesOf } from "../src/reader/sentences.ts";

/** The sentences of a text whose tokens read as the pieces do. */
function split(pieces: readonly (string | readonly number[])[], longest?: number): string[] {
  const tokenizer = pieceTokenizer(pieces);
  const ids = pieces.map((_, id) => id);
  return [...sentencesOf(ids, tokenizer, longest)].map(({ from, to }) => tokenizer.decode(ids.slice(from, to)));
}

/** Tokens as byte-level tokenizers make them: words with the space before them, marks and line breaks apart. */
function tokens(text: string): string[] {
  return text.match(/ ?[\p{L}\p{N}]+|\n+| ?[^\s\p{L}\p{N}]|\s/gu) ?? [];
}

describe("sentencesOf", () => {
  it.each<[string, readonly string[]]>([
    ["marks before a space", ["It rained.", " Did it? ", "Yes! ", "So it did"]],
    ["marks, also before words in lower case", ["remember : amber walnut .", " the sailor slept .", " a child"]],
    ["quotes and brackets behind the mark", ['"Go."', " (He went!)", " Nobody spoke…", " End"]],
    ["curly quotes", ["“Go.”", " He went.", " “No!”", " End"]],
    ["no abbreviations, initials and numbers", ["Mr. Bennet paid 3.14 pounds to Dr. J. Smith.", " He left"]],
    ["empty lines", ["CHAPTER I\n\n", "It was so\n\n\n", "and so"]],
    [
      "line breaks, but not those of wrapped prose",
      ["a list of\n", "Apples\n", "12 pears\n", "And here a line\nis wrapped"],
    ],
    ["line breaks behind marks", ["It is so.\n", "it was so.\n", "End"]],
    ["marks without spaces, where a script has none", ["雨が降った。", "本当？", "そうだ"]],
  ])("ends at %s", (_, sentences) => {
    const found = split(tokens(sentences.join("")));
    // White space may stand before a sentence where it has no line break, as it does in the tokens.
    expect(found.map((sentence) => sentence.trim())).toEqual(sentences.map((sentence) => sentence.trim()));
  });

  it("finds marks whose bytes are in several tokens", () => {
    const [a, b, c] = new TextEncoder().encode("”");
    expect(split(["Go", ".", [a], [b, c], " He", " went", "."])).toEqual(["Go.”", " He went."]);
  });

  it("cuts sentences that are too long", () => {
    expect(split(["a", " b", " c", " d", " e.", " f"], 3)).toEqual(["a b c", " d e.", " f"]);
  });

  it("leaves no token out and none twice, whatever the text", () => {
    const piece = fc.oneof(fc.constantFrom(".", "\n", "\n\n", " ", "”", "。", "Mr", " the", "The"), fc.string({ unit: "grapheme" })); // prettier-ignore
    fc.assert(
      fc.property(fc.array(piece), fc.integer({ min: 1, max: 9 }), (pieces, longest) => {
        const ids = pieces.map((_, id) => id);
        const spans = [...sentencesOf(ids, pieceTokenizer(pieces), longest)];
        expect(spans.flatMap(({ from, to }) => ids.slice(from, to))).toEqual(ids);
        for (const { from, to } of spans) expect(to - from).toBeLessThanOrEqual(longest);
        for (const { from, to } of spans) expect(to).toBeGreaterThan(from);
      }),
    );
  });
});
