import { describe, expect, it } from "vitest";
import * as is from "./definitions.ts";

/** The judge is judged: its formulas give the published numbers. d = 8, b = 10⁴ unless said otherwise. */
const text: is.Text = { base: 1e4, d: 8, trainedWindow: 2048, prompt: 64, ownWindow: Infinity };

const one = (part: is.Part, changes: Partial<is.Text> = {}) => is.define([part], { ...text, ...changes });

function frequencies(part: is.Part, changes: Partial<is.Text> = {}): number[] {
  const attention = one(part, changes);
  return Array.from({ length: (changes.d ?? text.d) / 2 }, (_, i) => attention.angle(1, 0, i, 0));
}

/** g(m, 0) … g(m, m), read from the pair that turns one radian a position. */
function distances(part: is.Part, m: number): number[] {
  return Array.from({ length: m + 1 }, (_, n) => one(part).angle(m, n, 0, 0));
}

describe("frequencies", () => {
  it.each([
    ["interpolation", is.interpolation(4), {}, [0.25, 0.025, 0.0025, 0.00025]],
    ["ntk", is.ntk(4), {}, [1, 0.06299605, 0.003968503, 0.00025]],
    ["dynamic-ntk within T", is.dynamicNtk(2), { prompt: 2048 }, [1, 0.1, 0.01, 0.001]],
    ["dynamic-ntk", is.dynamicNtk(2), { prompt: 4096 }, [1, 0.06933613, 0.004807499, 0.0003333333]],
    ["dynamic-ntk at 4T", is.dynamicNtk(4), { prompt: 8192 }, [1, 0.04252904, 0.001808719, 0.00007692308]],
    ["ntk-mixed", is.ntkMixed(12, 0.75), {}, [0.415386, 0.02281997, 0.001349765, 0.00008333333]],
    ["yarn", is.yarn(4), {}, [1, 0.1, 0.00625, 0.00025]],
    ["yarn, not truncated", is.yarn(4, { truncate: false }), {}, [1, 0.1, 0.005056972, 0.00025]],
    ["yarn, paper", is.yarn(4, { paper: true }), {}, [1, 0.1, 0.003046652, 0.00025]],
    ["llama3", is.llama3(4, 1, 4), {}, [1, 0.1, 0.008148733, 0.00025]],
    ["truncation", is.truncation(), {}, [1, 0.1, 0.01, 0.0001917476]],
    ["power", is.power(0.5), {}, [1, 0.08660254, 0.007071068, 0.0005]],
  ])("%s", (_, part, changes, expected) => {
    const computed = frequencies(part, changes);
    expected.forEach((value, i) => expect(computed[i] / value).toBeCloseTo(1, 6));
  });

  it("truncation of 64 pairs keeps 41, slows 14 and stops 9", () => {
    const all = frequencies(is.truncation(), { d: 128 });
    const rho = (2 * Math.PI) / (16 * 2048);
    expect(all.filter((theta) => theta > rho)).toHaveLength(41);
    expect(all.filter((theta) => theta === rho)).toHaveLength(14);
    expect(all.filter((theta) => theta === 0)).toHaveLength(9);
  });

  it.each([
    ["yarn at 4", is.yarn(4), 1.138629],
    ["yarn at 16", is.yarn(16), 1.277259],
    ["longrope at 16", is.longrope([], [], 16), 1.154701],
    ["longrope at 32", is.longrope([], [], 32), 1.190238],
  ])("attention factor of %s", (_, part, expected) => {
    expect(one(part, { trainedWindow: 4096 }).amplitude).toBeCloseTo(expected, 6);
  });
});

describe("distances", () => {
  it.each([
    ["self-extend", is.selfExtend(8, 4), "11 11 11 11 10 10 10 10 9 9 9 9 8 7 6 5 4 3 2 1 0"],
    ["self-extend, one further", is.selfExtend(8, 4), "11 11 11 11 10 10 10 10 9 9 9 9 8 8 7 6 5 4 3 2 1 0"],
    ["self-extend, odd groups", is.selfExtend(8, 3), "12 12 12 11 11 11 10 10 10 9 9 9 8 7 6 5 4 3 2 1 0"],
    ["leaky-rerope", is.leakyRerope(4, 4), "6 5.75 5.5 5.25 5 4.75 4.5 4.25 4 3 2 1 0"],
    ["rerope", is.rerope(4), "4 4 4 4 4 3 2 1 0"],
    ["dual-chunk, first query of a chunk", is.dualChunk(6, 10), "9 8 7 6 5 4 6 5 4 3 2 1 0"],
    ["dual-chunk, last query of a chunk", is.dualChunk(6, 10), "9 8 7 6 5 4 5 4 3 2 1 0"],
    ["dual-chunk, three chunks", is.dualChunk(6, 10), "9 8 7 6 5 4 9 8 7 6 5 4 5 4 3 2 1 0"],
  ])("%s", (_, part, line) => {
    const expected = line.split(" ").map(Number);
    expect(distances(part, expected.length - 1)).toEqual(expected);
  });

  it("streaming sees the slots of its cache", () => {
    // Kept tokens 0, 1, 2, 3 and 6, 7, 8 and the query 9: slots 0 to 7.
    const part = one(is.streaming(4, 4));
    const seen = Array.from({ length: 10 }, (_, n) => n).filter((n) => part.visible(9, n));
    expect(seen).toEqual([0, 1, 2, 3, 6, 7, 8, 9]);
    expect(seen.map((n) => part.angle(9, n, 0, 0))).toEqual([7, 6, 5, 4, 3, 2, 1, 0]);
  });

  it("lm-infinite keeps its sinks at the window", () => {
    const part = one(is.lmInfinite(2, 4));
    const seen = Array.from({ length: 10 }, (_, n) => n).filter((n) => part.visible(9, n));
    expect(seen).toEqual([0, 1, 6, 7, 8, 9]);
    expect(seen.map((n) => part.angle(9, n, 0, 0))).toEqual([4, 4, 3, 2, 1, 0]);
  });

  it("parallel windows begin again, and the task goes on behind one of them", () => {
    const part = one(is.parallel(2), { prompt: 11 }); // two windows of 3 and a task of 5
    const seen = (m: number) => Array.from({ length: 12 }, (_, n) => n).filter((n) => part.visible(m, n));
    expect(seen(2)).toEqual([0, 1, 2]);
    expect(seen(4)).toEqual([3, 4]);
    expect(seen(6)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(seen(11)).toHaveLength(12);
    expect(seen(7).map((n) => part.angle(7, n, 0, 0))).toEqual([4, 3, 2, 4, 3, 2, 1, 0]);
  });

  it("prefix looks ahead at negative distances", () => {
    const part = one(is.prefix(3));
    expect([0, 1, 2, 3].map((n) => part.visible(1, n))).toEqual([true, true, true, false]);
    expect(part.angle(0, 2, 0, 0)).toBe(-2);
  });
});

it("logn", () => {
  const { scale } = one(is.logn, { trainedWindow: 4096 });
  expect([scale(100), scale(8191), scale(16383)].map((value) => value.toFixed(6))).toEqual([
    "1.000000",
    "1.083333",
    "1.166667",
  ]);
});
