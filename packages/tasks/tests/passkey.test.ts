import { describe, expect, it } from "vitest";
import { passkeyTask, type Cell } from "../src/index.ts";
import { sentencesOf } from "../src/haystack.ts";
import { wordTokenizer } from "./tokenizers.ts";

const tokenizer = wordTokenizer();
const UNIT = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";
const cell = (over: Partial<Cell> = {}): Cell => ({ length: 512, depth: 50, trial: 0, seed: 1, ...over });

describe("the passkey task with the published filler", () => {
  const task = passkeyTask().bind(tokenizer);

  it("is the published template, byte for byte", () => {
    const { text, refs } = task.prompt(cell());
    const [key] = refs;
    const lines = text.split("\n");
    expect(lines).toHaveLength(5);
    expect(lines[0]).toBe(
      "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.",
    );
    expect(lines[2]).toBe(`The pass key is ${key}. Remember it. ${key} is the pass key.`);
    expect(lines[4]).toBe("What is the pass key? The pass key is");
    for (const half of [lines[1], lines[3]]) expect(half.replaceAll(UNIT, "").trim()).toBe("");
    expect(key).toMatch(/^[1-5]\d{4}$/);
  });

  it.each([256, 512, 1000, 2048])("holds as many units as fit %i tokens, split by depth", (length) => {
    const unit = tokenizer.encode(` ${UNIT}`).length;
    for (const depth of [0, 25, 50, 75, 100]) {
      const { text, ids, needles } = task.prompt(cell({ length, depth }));
      expect(ids.length).toBeLessThanOrEqual(length);
      expect(ids.length).toBeGreaterThan(length - unit);
      const [before, after] = [1, 3].map((line) => text.split("\n")[line].split(UNIT).length - 1) as [number, number];
      expect(before).toBe(Math.floor((depth / 100) * (before + after)));
      expect(tokenizer.decode(ids.slice(needles[0].start, needles[0].end)).trim()).toBe(text.split("\n")[2]);
    }
  });

  it("says where the long text is, between instruction and question", () => {
    for (const depth of [0, 50, 100]) {
      const { text, ids, passage } = task.prompt(cell({ depth }));
      const lines = text.split("\n");
      const read = (start: number, end?: number) => tokenizer.decode(ids.slice(start, end));
      expect(read(0, passage.start)).toBe(`${lines[0]}\n`);
      expect(read(passage.start, passage.end)).toBe(lines.slice(1, 4).join("\n"));
      expect(read(passage.end)).toBe(`\n${lines[4]}`);
    }
  });

  it("scores the first integer", () => {
    const { score } = passkeyTask();
    expect(score(" 71432.", ["71432"])).toBe(1);
    expect(score("the key 71432 99999", ["71432"])).toBe(1);
    expect(score("99999 then 71432", ["71432"])).toBe(0);
    expect(score("714321", ["71432"])).toBe(0);
    expect(score("none", ["71432"])).toBe(0);
  });

  it("refuses a length without room", () => {
    expect(() => task.prompt(cell({ length: 60 }))).toThrow(/60 tokens are too few for a passkey prompt/);
    expect(() => passkeyTask({ haystack: "essays" as "novel" })).toThrow(
      /no haystack "essays"; there is filler or novel/,
    );
  });
});

describe("the passkey task in a novel", () => {
  const task = passkeyTask({ haystack: "novel" }).bind(tokenizer);

  it("fills the length with whole sentences", () => {
    for (const length of [512, 1024, 4096]) {
      for (let trial = 0; trial < 4; trial++) {
        const { ids, text, haystack, needles } = task.prompt(cell({ length, trial, depth: 25 * trial }));
        expect(ids.length).toBeLessThanOrEqual(length);
        expect(ids.length).toBeGreaterThanOrEqual(0.97 * length);
        const [novel, first] = haystack.split(":") as [Parameters<typeof sentencesOf>[0], string];
        const begin = sentencesOf(novel)[Number(first)];
        const lines = text.split("\n");
        expect(`${lines[1]} ${lines[3]}`.trim().startsWith(begin)).toBe(true);
        expect(Math.abs(needles[0].depth - 25 * trial)).toBeLessThan(
          (100 * Math.max(...text.split(/(?<=[.!?]) /).map((part) => tokenizer.encode(part).length)) * 2) / length,
        );
      }
    }
  });

  it("begins elsewhere in every trial", () => {
    const starts = Array.from({ length: 30 }, (_, trial) => task.prompt(cell({ trial })).haystack);
    expect(new Set(starts).size).toBe(30);
    expect(new Set(starts.map((start) => start.split(":")[0])).size).toBe(4);
  });

  it("cuts sentences as a reader would", () => {
    const sentences = sentencesOf("prideprejudice");
    expect(sentences[0]).toBe(
      "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    );
    expect(sentences.some((sentence) => /(^| )(Chapter|Volume) \d+$|[\n_]{2}|Mr\.$/.test(sentence))).toBe(false);
    expect(sentences.length).toBeGreaterThan(4000);
  });

  it("goes on in the next novels where one is too short, and refuses what is longer than all of them", () => {
    const { text, haystack } = task.prompt(cell({ length: 200_000 }));
    const novels = ["northangerabbey", "persuasion", "prideprejudice", "sensesensibility"] as const;
    const [first] = haystack.split(":");
    const others = novels.filter((novel) =>
      sentencesOf(novel)
        .slice(0, 50)
        .every((sentence) => text.includes(sentence)),
    );
    expect(others).toContain(first);
    expect(others.length).toBeGreaterThan(1);
    expect(() => task.prompt(cell({ length: 1_000_000 }))).toThrow(/longer than northangerabbey and/);
  });
});
