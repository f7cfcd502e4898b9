import { describe, expect, it } from "vitest";
import { HEADS_FORMAT, parseScroll, scrollSpec } from "../src/index.ts";

const model = { name: "m", modelType: "llama", vocabSize: 9, hiddenSize: 8, layerCount: 3, queryHeads: 12, keyHeads: 4, headSize: 8 }; // prettier-ignore
const file = { format: HEADS_FORMAT, model, best: [[2, 11]], heads: [] };

describe("a reader's spec", () => {
  it("names sizes and heads, or leaves them to the reader", () => {
    expect(parseScroll("scroll")).toEqual({});
    expect(parseScroll("scroll:chunk=512,phrase=1, budget = 100,answer=50,heads=14.3/1.10")).toEqual({
      chunk: 512,
      phrase: 1,
      budget: 100,
      answer: 50,
      heads: [[14, 3], [1, 10]], // prettier-ignore
    });
  });

  it("is what a reader's values are written as", () => {
    const spec = "scroll:chunk=512,phrase=1,budget=100,answer=50,heads=14.3/1.10";
    const { heads, ...sizes } = parseScroll(spec);
    expect(scrollSpec({ sizes: sizes as Required<typeof sizes>, heads: heads as [number, number][] })).toBe(spec);
  });

  it("may name a heads file", () => {
    const read = (path: string) => (path === "h.json" ? file : null);
    expect(parseScroll("scroll:heads=h.json", read)).toEqual({ heads: file });
    expect(() => parseScroll("scroll:heads=other.json", read)).toThrow(/^other\.json is not a heads file/);
    expect(() => parseScroll("scroll:heads=h.json")).toThrow(/nothing here reads files; write layers and heads as/);
  });

  it.each<[string, RegExp]>([
    ["skim", /There is no reader "skim" in "skim"; there is scroll\./],
    ["scroll:", /Write scroll's parameter as KEY=VALUE, not ""/],
    ["scroll:chunk", /as KEY=VALUE, not "chunk"/],
    ["scroll:chunk=", /as KEY=VALUE, not "chunk="/],
    ["scroll:chunk=1=2", /as KEY=VALUE/],
    ["scroll:window=5", /no parameter "window".*takes chunk, phrase, budget, answer or heads/],
    ["scroll:chunk=5,chunk=6", /is given chunk twice/],
    ["scroll:chunk=half", /chunk is half; give a whole number of tokens/],
    ["scroll:budget=-1", /budget is -1/],
  ])("is refused where it is wrong: %s", (spec, message) => {
    expect(() => parseScroll(spec)).toThrow(expect.objectContaining({ code: "argument", message: expect.stringMatching(message) })); // prettier-ignore
  });
});
