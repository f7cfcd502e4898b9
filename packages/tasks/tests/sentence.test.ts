import { describe, expect, it } from "vitest";
import { sentenceTask, type Cell } from "../src/index.ts";
import { FACTS } from "../src/probes/facts.ts";
import { continuation } from "../src/sentence.ts";
import { wordTokenizer } from "./tokenizers.ts";

const tokenizer = wordTokenizer();
const cell = (over: Partial<Cell> = {}): Cell => ({ length: 1600, depth: 50, trial: 0, seed: 1, ...over });

describe("a sentence in a novel", () => {
  it.each([false, true])(
    "is among whole sentences at its depth, and asked behind them (paraphrase: %s)",
    (paraphrase) => {
      const task = sentenceTask({ paraphrase }).bind(tokenizer);
      for (const depth of [0, 25, 50, 75, 100]) {
        const { text, ids, needles, passage, questionStart, refs } = task.prompt(cell({ depth }));
        expect(ids.length).toBeLessThanOrEqual(1600);
        const fact = FACTS.find(({ needle }) => text.includes(needle))!;
        const asked = paraphrase ? `${fact.paraphrase} ${fact.paraphraseOpening}` : `${fact.question} ${fact.opening}`;
        expect(text.split("\n")).toHaveLength(3);
        expect(text.endsWith(`\n${asked}`)).toBe(true);
        const [needle] = needles;
        expect(tokenizer.decode(ids.slice(needle.start, needle.end)).trim()).toBe(fact.needle);
        expect(Math.abs(needle.depth - depth)).toBeLessThan(20);
        expect(passage.start).toBeLessThanOrEqual(needle.start);
        expect(passage.end).toBeGreaterThanOrEqual(needle.end);
        expect(questionStart).toBe(passage.end);
        expect(refs).toEqual([fact.answer]);
      }
    },
  );

  it("differs by trial and by seed, in its fact and its novel", () => {
    const task = sentenceTask().bind(tokenizer);
    const prompts = Array.from({ length: 20 }, (_, trial) => task.prompt(cell({ trial })));
    expect(new Set(prompts.map(({ refs }) => refs[0])).size).toBeGreaterThan(8);
    expect(new Set(prompts.map(({ haystack }) => haystack)).size).toBe(20);
    expect(task.prompt(cell({ seed: 2 })).text).not.toBe(prompts[0].text);
  });

  it("counts an answer that has the needle's words, whatever stands around them", () => {
    const { score } = sentenceTask();
    for (const fact of FACTS) {
      const said = continuation(fact);
      expect(said.length).toBeLessThan(fact.needle.length);
      expect(`${fact.needle.slice(0, -said.length)}${said}`).toBe(fact.needle);
      expect(score(said, [fact.answer])).toBe(1);
      // What the question says already is no answer.
      for (const asked of [fact.question, fact.opening, fact.paraphrase, fact.paraphraseOpening])
        expect(score(asked, [fact.answer])).toBe(0);
    }
    expect(score(" ELEVEN silver, spoons!", ["silver spoons"])).toBe(1);
    expect(score(" silver. And spoons", ["silver spoons"])).toBe(0);
    expect(score(" childhood", ["child"])).toBe(0);
  });

  it("refuses a length without room", () => {
    expect(() =>
      sentenceTask()
        .bind(tokenizer)
        .prompt(cell({ length: 50 })),
    ).toThrow(/50 tokens are too few for a sentence/);
  });
});
