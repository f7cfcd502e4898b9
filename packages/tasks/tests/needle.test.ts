import type { Tokenizer } from "@longctx/core";
import { beforeAll, describe, expect, it } from "vitest";
import { needleTask, WORLD, type Cell } from "../src/index.ts";
import { tinyTokenizer } from "./tokenizers.ts";

const LENGTHS = [64, 128, 256, 512, 1024];
const DEPTHS = [0, 25, 50, 75, 100];

describe("the needle task", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await tinyTokenizer();
  });

  const cells = (seed = 1): Cell[] =>
    LENGTHS.flatMap((length) => DEPTHS.flatMap((depth) => [0, 1].map((trial) => ({ length, depth, trial, seed }))));

  it("knows every word of its world", () => {
    const unknown = tokenizer.encode("[UNK]", { special: false })[0];
    const words = [
      ...WORLD.subjects,
      ...WORLD.verbs,
      ...WORLD.objects,
      ...WORLD.endings,
      ...WORLD.keys,
      ...WORLD.values,
      "remember : .",
    ].flatMap((text) => text.split(" "));
    for (const word of words) {
      const ids = tokenizer.encode(word, { special: false });
      expect({ word, tokens: ids.length, unknown: ids[0] === unknown }).toEqual({ word, tokens: 1, unknown: false });
    }
    expect(
      [WORLD.subjects, WORLD.verbs, WORLD.objects, WORLD.endings, WORLD.keys, WORLD.values].map(
        (list) => new Set(list).size,
      ),
    ).toEqual([20, 20, 20, 15, 24, 48]);
  });

  it.each([1, 3, 8])("fills the length, places %i needles and says where", (needles) => {
    const task = needleTask({ needles }).bind(tokenizer);
    for (const cell of cells().filter(({ length }) => length > needles * 20)) {
      const prompt = task.prompt(cell);
      expect(prompt.ids.length).toBeLessThanOrEqual(cell.length);
      expect(prompt.ids.length).toBeGreaterThanOrEqual(0.97 * cell.length);
      expect(prompt.ids).toEqual(tokenizer.encode(prompt.text));
      expect(prompt.needles).toHaveLength(needles);
      for (const { key, value, start, end } of prompt.needles) {
        expect(prompt.ids.slice(start, end)).toEqual(
          tokenizer.encode(`remember : ${key} ${value} .`, { special: false }),
        );
        const before = prompt.ids[start - 1];
        expect([tokenizer.encode("")[0], tokenizer.encode(".", { special: false })[0]]).toContain(before);
      }
      const [asked] = prompt.needles;
      expect(prompt.text.endsWith(`remember : ${asked.key}`)).toBe(true);
      expect(prompt.passage.start).toBe(tokenizer.encode("").length);
      expect(tokenizer.decode(prompt.ids.slice(prompt.passage.end))).toBe(`remember : ${asked.key}`);
      expect(prompt.refs).toEqual([asked.value]);
      expect(tokenizer.token(prompt.firstAnswerToken)).toBe(asked.value);
      expect(new Set(prompt.needles.map(({ key }) => key)).size).toBe(needles);
      // Depths are of sentences, so the share of tokens is off by less than a sentence or two.
      expect(Math.abs(asked.depth - cell.depth)).toBeLessThan((100 * 20) / (cell.length - needles * 10));
    }
  });

  it("puts the needle at the very beginning and the very end", () => {
    const task = needleTask().bind(tokenizer);
    const at = (depth: number) => task.prompt({ length: 256, depth, trial: 0, seed: 1 });
    expect(at(0).needles[0]).toMatchObject({ start: 1, depth: 0 });
    const end = at(100);
    expect(end.needles[0]).toMatchObject({ end: end.ids.length - 3, depth: 100 });
  });

  it("derives a prompt from its cell alone: any order, any subset, any instance", () => {
    const forwards = needleTask({ needles: 2 }).bind(tokenizer);
    const backwards = needleTask({ needles: 2 }).bind(tokenizer);
    const there = cells().map((cell) => forwards.prompt(cell));
    const back = cells()
      .toReversed()
      .map((cell) => backwards.prompt(cell))
      .toReversed();
    expect(back).toEqual(there);
    expect(needleTask({ needles: 2 }).bind(tokenizer).prompt(cells()[17])).toEqual(there[17]);
    expect(new Set(there.map(({ id }) => id)).size).toBe(there.length);
    expect(new Set(there.map(({ sha256 }) => sha256)).size).toBe(there.length);
  });

  it("has other prompts for another seed, trial or number of needles", () => {
    const cell = { length: 128, depth: 50, trial: 0, seed: 1 };
    const task = needleTask().bind(tokenizer);
    const texts = [
      task.prompt(cell),
      task.prompt({ ...cell, seed: 2 }),
      task.prompt({ ...cell, trial: 1 }),
      needleTask({ needles: 2 }).bind(tokenizer).prompt(cell),
    ].map(({ text }) => text);
    expect(new Set(texts).size).toBe(4);
  });

  it("is the same on every machine", () => {
    const prompt = needleTask().bind(tokenizer).prompt({ length: 64, depth: 50, trial: 0, seed: 1 });
    expect({ id: prompt.id, sha256: prompt.sha256 }).toMatchInlineSnapshot(`
      {
        "id": "fa5c99a540d7abdaf57043e6776ec8ef6ca82e4c957f0f679946bef88cae98c6",
        "sha256": "16e1daba0216d385a0e459e4a73ad018714009ae07162f31f005f696a1fccd1a",
      }
    `);
  });

  it("scores the first word", () => {
    const { score } = needleTask();
    expect(score("walnut", ["walnut"])).toBe(1);
    expect(score(" Walnut .", ["walnut"])).toBe(1);
    expect(score("maple walnut", ["walnut"])).toBe(0);
    expect(score("walnuts", ["walnut"])).toBe(0);
    expect(score("", ["walnut"])).toBe(0);
  });

  it("refuses what cannot be", () => {
    expect(() => needleTask({ needles: 25 })).toThrow(/25 needles; give a whole number from 1 to 24/);
    expect(() => needleTask().bind(tokenizer).prompt({ length: 12, depth: 0, trial: 0, seed: 1 })).toThrow(
      /12 tokens are too few for a needle prompt/,
    );
  });
});
