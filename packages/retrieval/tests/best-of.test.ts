import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { bestOf, type ScoredSentence } from "../src/index.ts";

function sentence(from: number, to: number, score: number, peak = from): ScoredSentence {
  return { from, to, score, peak };
}
const ranges = (sentences: readonly ScoredSentence[]) => sentences.map(({ from, to }) => [from, to]);

describe("bestOf", () => {
  it("takes the best whole sentences in order of the text", () => {
    const sentences = [sentence(0, 4, 1), sentence(4, 8, 5), sentence(8, 12, 2), sentence(12, 16, 3)];
    expect(ranges(bestOf(sentences, 12))).toEqual([[4, 8], [8, 12], [12, 16]]); // prettier-ignore
  });

  it("passes over one that does not fit, and goes on", () => {
    const sentences = [sentence(0, 4, 9), sentence(4, 12, 8), sentence(12, 15, 1)];
    expect(ranges(bestOf(sentences, 8))).toEqual([[0, 4], [12, 15]]); // prettier-ignore
  });

  it("splits one that is longer than the budget around its peak", () => {
    expect(ranges(bestOf([sentence(10, 50, 9, 30)], 8))).toEqual([[26, 34]]);
    expect(ranges(bestOf([sentence(10, 50, 9, 49)], 8))).toEqual([[42, 50]]);
    expect(ranges(bestOf([sentence(10, 50, 9, 11)], 8))).toEqual([[10, 18]]);
    expect(ranges(bestOf([sentence(0, 3, 9), sentence(10, 50, 8, 30)], 8))).toEqual([[0, 3], [28, 33]]); // prettier-ignore
  });

  it("prefers the earlier of equal ones", () => {
    expect(ranges(bestOf([sentence(0, 4, 1), sentence(4, 8, 1)], 4))).toEqual([[0, 4]]);
  });

  it("never takes more than the budget, nor leaves out what would fit", () => {
    const any = fc.array(fc.record({ size: fc.integer({ min: 1, max: 20 }), score: fc.integer({ min: 0, max: 5 }) }));
    fc.assert(
      fc.property(any, fc.integer({ min: 1, max: 40 }), (drawn, budget) => {
        let end = 0;
        const sentences = drawn.map(({ size, score }) => sentence(end, (end += size), score));
        const taken = bestOf(sentences, budget);
        const total = taken.reduce((sum, { from, to }) => sum + to - from, 0);
        expect(total).toBeLessThanOrEqual(budget);
        expect(taken).toEqual([...taken].sort((a, b) => a.from - b.from));
        const passed = sentences.filter(({ peak }) => !taken.some((one) => one.peak === peak));
        for (const { from, to } of passed) expect(to - from).toBeGreaterThan(budget - total);
      }),
    );
  });
});
