import { describe, expect, it } from "vitest";
import { contentHash, Draws } from "../src/index.ts";

describe("contentHash", () => {
  it("does not depend on the order of fields", () => {
    expect(contentHash({ a: 1, b: [true, null, "x"] })).toBe(contentHash({ b: [true, null, "x"], a: 1 }));
    expect(contentHash({ a: 1 })).not.toBe(contentHash({ a: "1" }));
    expect(contentHash([1, 2])).not.toBe(contentHash([2, 1]));
  });
});

describe("Draws", () => {
  it("belongs to its content", () => {
    const numbers = (content: string): number[] => {
      const draws = new Draws(content);
      return Array.from({ length: 50 }, () => draws.integer(0, 9));
    };
    expect(numbers("a")).toEqual(numbers("a"));
    expect(numbers("a")).not.toEqual(numbers("b"));
    expect(new Set(numbers("a")).size).toBe(10);
  });

  it("samples without repetition", () => {
    const items = [1, 2, 3, 4, 5, 6];
    for (let seed = 0; seed < 20; seed++) expect(new Draws(seed).sample(items, 6).sort((a, b) => a - b)).toEqual(items);
  });

  it("meets a share", () => {
    const draws = new Draws("share");
    const hits = Array.from({ length: 10_000 }, () => draws.chance(0.6)).filter(Boolean).length;
    expect(hits / 10_000).toBeCloseTo(0.6, 1);
  });
});
