import { describe, expect, it } from "vitest";
import { FACTS } from "../src/probes/facts.ts";
import { headProbes, PROBE_KINDS, probeKindsFor, proseOf } from "../src/index.ts";
import { tinyTokenizer, wordTokenizer } from "./tokenizers.ts";

const words = wordTokenizer();
const tiny = await tinyTokenizer();
const options = { length: 512, prompts: 32, seed: 1 };
const prose = headProbes(words, options);
const read = (ids: readonly number[], { from, to }: { from: number; to: number }) => words.decode(ids.slice(from, to));

describe("probes in prose", () => {
  it("fill the length, have their needle among whole sentences, and ask behind the text", () => {
    expect(prose).toHaveLength(128);
    for (const { kind, ids, sentences, needle, question } of prose) {
      expect(ids.length).toBeLessThanOrEqual(512);
      expect(ids.length).toBeGreaterThan(kind === "passkey-filler" ? 470 : 400);
      const [first, last] = [sentences[0], sentences.at(-1)!];
      expect(read(ids, { from: 0, to: first.from })).toMatch(/^There is an important info .* there\.\n$/);
      expect(read(ids, { from: last.to, to: question.from })).toBe("\n");
      sentences.slice(1).forEach(({ from }, i) => expect(from).toBe(sentences[i].to));
      expect(question.to).toBe(ids.length);
      const own = sentences.filter(({ from, to }) => from < needle.to && to > needle.from);
      const texts = own.map((sentence) => read(ids, sentence).trim()).join(" ");
      // A sentence of prose may end without a full stop (a heading), and then the needle's goes on from it.
      expect(texts).toContain(read(ids, needle).trim());
      expect(sentences.length - own.length).toBeGreaterThan(2);
    }
  });

  it("ask for what they hide, in words of the needle or in others", () => {
    const facts = new Map(FACTS.map((fact) => [fact.needle, fact]));
    for (const { kind, ids, needle, question } of prose) {
      const [hidden, asked] = [read(ids, needle).trim(), read(ids, question)];
      const fact = facts.get(hidden);
      const passkey = hidden.replace(/^The pass key is (\d{5})\. Remember it\. \1 is the pass key\.$/, "published");
      const expected = {
        "passkey-filler": ["published", "What is the pass key? The pass key is"],
        "passkey-prose": ["published", "What is the pass key? The pass key is"],
        sentence: [hidden, `${fact?.question} ${fact?.opening}`],
        paraphrase: [hidden, `${fact?.paraphrase} ${fact?.paraphraseOpening}`],
      };
      expect([passkey, asked]).toEqual(expected[kind as keyof typeof expected]);
    }
  });

  it("take turns by kind, in two halves that share no fact and both go through all depths", () => {
    expect(prose.slice(0, 4).map(({ kind }) => kind)).toEqual(PROBE_KINDS.slice(0, 4));
    expect(prose.map(({ heldOut }) => heldOut)).toEqual(Array.from({ length: 128 }, (_, i) => (i >> 2) % 2 === 1));
    const needles = (held: boolean, kind: string) =>
      prose
        .filter((one) => one.heldOut === held && one.kind === kind)
        .map(({ ids, needle }) => read(ids, needle).trim());
    expect(new Set(needles(true, "sentence")).size).toBe(12);
    for (const needle of needles(false, "sentence")) expect(needles(true, "sentence")).not.toContain(needle);
    for (const held of [true, false]) {
      const places = prose
        .filter(({ heldOut, kind }) => heldOut === held && kind === "passkey-filler")
        .map(({ ids, needle }) => Math.round((8 * needle.from) / ids.length));
      expect(new Set(places).size).toBeGreaterThanOrEqual(7);
    }
  });

  it("are the same for the same seed, and others for another", () => {
    expect(headProbes(words, { ...options, prompts: 2 })).toEqual(prose.slice(0, 8));
    const others = headProbes(words, { ...options, prompts: 2, seed: 2 });
    others.forEach(({ ids }, i) => expect(ids).not.toEqual(prose[i].ids));
  });

  it("hide needles in texts that are given", () => {
    const text = Array.from({ length: 300 }, (_, i) => `Sentence ${i} of the long book is broken\ninto lines.`).join(
      " ",
    );
    const kinds = ["sentence"] as const;
    const [{ ids, sentences }] = headProbes(words, { ...options, kinds, texts: [proseOf("book", text)] });
    const found = sentences.map((sentence) => read(ids, sentence).trim());
    expect(
      found.filter((sentence) => /^Sentence \d+ of the long book is broken into lines\.$/.test(sentence)).length,
    ).toBe(found.length - 1);
    expect(() => headProbes(words, { ...options, kinds, texts: [proseOf("short", "Too short.")] })).toThrow(
      /longer than short; ask for a shorter text/,
    );
  });
});

describe("probes in the small world", () => {
  it("are those for a tokenizer that spells prose by letters", () => {
    expect(probeKindsFor(tiny)).toEqual(["world", "world-4"]);
    expect(probeKindsFor(words)).toEqual(PROBE_KINDS.slice(0, 4));
  });

  it("ask for one of four needles", () => {
    for (const { kind, ids, sentences, needle, question } of headProbes(tiny, { length: 256, prompts: 4, seed: 1 })) {
      expect(ids.length).toBe(256);
      const text = ({ from, to }: { from: number; to: number }) => tiny.decode(ids.slice(from, to));
      const [, key] = /^remember : (\w+)$/.exec(text(question))!;
      expect(text(needle)).toMatch(new RegExp(`^remember : ${key} \\w+\\.$`));
      const reminders = sentences.map(text).filter((sentence) => sentence.startsWith("remember :"));
      expect(reminders).toHaveLength(kind === "world" ? 1 : 4);
      expect(reminders).toContain(text(needle));
      expect(sentences.length).toBeGreaterThan(15);
      expect(sentences.at(-1)!.to).toBe(question.from);
    }
  });
});

describe("facts", () => {
  const SMALL = new Set("a an and are at be by did do does for from has have he her his how i in into is it its may of on one or she so that the their there they this to under was what when where which who whom why will with would".split(" ")); // prettier-ignore
  const contentOf = (text: string) =>
    new Set((text.toLowerCase().match(/\p{L}+/gu) ?? []).filter((word) => word.length > 2 && !SMALL.has(word)));

  it("are even in number, and paraphrases share none of a needle's content words", () => {
    expect(FACTS.length % 2).toBe(0);
    for (const { needle, question, paraphrase, paraphraseOpening } of FACTS) {
      const own = contentOf(needle);
      const shared = (text: string) => [...contentOf(text)].filter((word) => own.has(word));
      expect({ needle, shared: shared(`${paraphrase} ${paraphraseOpening}`) }).toEqual({ needle, shared: [] });
      expect(shared(question).length).toBeGreaterThan(2);
    }
  });
});

describe("headProbes", () => {
  it.each([
    ["a length without room", { length: 60 }, /60 tokens are too few for a probe \(passkey-filler\): \d+ go to/],
    ["one prompt", { prompts: 1 }, /1 prompts of a kind make no two halves/],
    ["an unknown kind", { kinds: ["poem" as "world"] }, /no probe "poem"; there is passkey-filler,/],
    ["no kind", { kinds: [] }, /no probe ""/],
  ])("refuses %s", (_, change, message) => {
    expect(() => headProbes(words, { ...options, ...change })).toThrow(message);
  });
});
