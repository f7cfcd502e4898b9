import { describe, expect, it } from "vitest";
import type { CapturedAttention } from "@longctx/core";
import { findingOf, halvesFinding } from "../../src/heads/findings.ts";
import { bestSets, worthiest } from "../../src/heads/head-sets.ts";
import { findNeedle, ProbeScores } from "../../src/heads/probe-scores.ts";
import { attentionToText, largestOf, sumOfNeighbours } from "../../src/reader/sentence-scores.ts";

describe("sentence scores", () => {
  it("sums neighbours, fewer at the ends", () => {
    const values = Float64Array.of(1, 2, 4, 8);
    expect([...sumOfNeighbours(values, 1)]).toEqual([1, 2, 4, 8]);
    expect([...sumOfNeighbours(values, 2)]).toEqual([3, 6, 12, 8]);
    expect([...sumOfNeighbours(values, 3)]).toEqual([3, 7, 14, 12]);
    expect([...sumOfNeighbours(values, 9)]).toEqual([15, 15, 15, 15]);
  });

  it("takes the largest of each range, not its sum", () => {
    const ranges = [{ from: 0, to: 3 }, { from: 3, to: 4 }]; // prettier-ignore
    expect([...largestOf([1, 1, 1, 2], ranges)]).toEqual([1, 2]);
  });

  it("sums rows of several chunks over the text alone", () => {
    // Two chunks: rows 4 and 5 of 6 tokens, then row 6 of 7; two heads.
    const captured: CapturedAttention[] = [
      { first: 4, count: 2, tokens: 6, heads: [0, 3], weights: Float32Array.from({ length: 24 }, (_, i) => i) },
      { first: 6, count: 1, tokens: 7, heads: [0, 3], weights: Float32Array.from({ length: 14 }, (_, i) => 100 * i) },
    ];
    // Tokens 1 to 3: head 0 has rows at 0, 6 and 0; head 3 at 12, 18 and 7.
    expect([...attentionToText(captured, { from: 1, to: 3 })]).toEqual([
      1 + 7 + 100,
      2 + 8 + 200,
      13 + 19 + 800,
      14 + 20 + 900,
    ]);
  });
});

describe("findNeedle", () => {
  it.each([
    ["first", [1, 6, 2], [false, true, false], { rank: 1, margin: 3 }],
    ["third, as equals come before it", [4, 2, 2, 1], [false, true, false, false], { rank: 3, margin: 0.5 }],
    ["by the better of its two sentences", [3, 1, 9], [false, true, true], { rank: 1, margin: 3 }],
    ["last where it gets nothing", [0, 0, 0], [true, false, false], { rank: 3, margin: 0 }],
    ["first where nothing else gets anything", [0, 2], [false, true], { rank: 1, margin: 1e6 }],
  ] as const)("puts the needle %s", (_, scores, ofNeedle, found) => {
    expect(findNeedle([...scores], [...ofNeedle])).toEqual(found);
  });
});

/** A prompt of three sentences of two tokens each under one layer; `attention` is [heads, 6], the needle is the middle. */
function planted(attention: readonly (readonly number[])[], heldOut = false, kind = "planted"): ProbeScores {
  const probe = {
    kind,
    heldOut,
    ids: [9, 0, 1, 2, 3, 4, 5, 8],
    sentences: [1, 3, 5].map((from) => ({ from, to: from + 2 })),
    needle: { from: 3, to: 5 },
    question: { from: 7, to: 8 },
  };
  // Token 0 is in front of the text and token 7 behind it; neither counts.
  const weights = Float32Array.from(attention.flatMap((row) => [99, ...row, 99]));
  const captured = [{ first: 7, count: 1, tokens: 8, heads: attention.map((_, head) => head), weights }];
  return new ProbeScores(probe, { attention: () => captured }, { layerCount: 1, queryHeads: attention.length }, 1);
}

const FINDS = [1, 1, 5, 1, 1, 1];
const MISSES = [4, 1, 1, 1, 1, 1];
const NOWHERE = [1, 1, 1, 1, 1, 1];

describe("findings", () => {
  it("are the share of rank 1, and the median and the least margin", () => {
    const probes = [planted([FINDS]), planted([[1, 1, 3, 1, 1, 1]]), planted([MISSES]), planted([[1, 1, 2, 1, 1, 1]])];
    expect(findingOf(probes, [0])).toEqual({ prompts: 4, first: 0.75, median: 2.5, worst: 0.25 });
    expect(findingOf(probes.slice(0, 3), [0])).toMatchObject({ median: 3, worst: 0.25 });
  });

  it("sum the attention of heads before the best token is taken", () => {
    // Each head alone prefers another sentence; together they agree on the needle's first token.
    const probe = planted([
      [5, 0, 4, 0, 0, 0],
      [0, 0, 4, 0, 0, 6],
    ]);
    expect([[0], [1], [0, 1]].map((heads) => probe.found(heads))).toEqual([
      { rank: 2, margin: 0.8 },
      { rank: 2, margin: 4 / 6 },
      { rank: 1, margin: 8 / 6 },
    ]);
  });

  it("keep the halves and the kinds apart", () => {
    const chosen = [planted([FINDS]), planted([FINDS], false, "other")];
    const heldOut = [planted([MISSES], true), planted([FINDS], true, "other"), planted([FINDS], true, "other")];
    expect(halvesFinding({ chosen, heldOut }, [0])).toMatchObject({
      chosen: { prompts: 2, first: 1 },
      heldOut: { prompts: 3, first: 2 / 3 },
      kinds: { planted: { prompts: 1, first: 0 }, other: { prompts: 2, first: 1 } },
    });
  });
});

describe("sets of heads", () => {
  it("find the two heads that together find every needle", () => {
    // Heads 1 and 3 each find half of the needles; head 0 finds three quarters, but never helps another.
    const even = [FINDS, NOWHERE, NOWHERE, FINDS];
    const odd = [[9, 1, 10, 1, 1, 1], FINDS, NOWHERE, NOWHERE]; // prettier-ignore
    const last = [[40, 1, 1, 1, 1, 1], FINDS, NOWHERE, NOWHERE]; // prettier-ignore
    const probes = [planted(even), planted(even), planted(odd), planted(last)];
    const [best, ...others] = bestSets(probes, 4, 2);
    expect(new Set(best.heads)).toEqual(new Set([1, 3]));
    expect(best.finding).toMatchObject({ first: 1, worst: 3 });
    // A pair more was asked for, and the best grows by one head at a time.
    expect(others.map(({ heads }) => heads.length)).toEqual([2, 3, 4]);
    expect(others[1].heads.slice(0, 2)).toEqual(best.heads);
  });

  it("are worth their size only where they find more, or as much with a far better margin", () => {
    const set = (size: number, first: number, worst: number) => ({
      heads: Array.from({ length: size }, (_, i) => i),
      finding: { prompts: 10, first, median: 5, worst },
    });
    const [one, two, three] = [set(1, 0.9, 0.5), set(2, 1, 2), set(3, 1, 2.9)];
    expect(worthiest([one, two, three])).toBe(two);
    expect(worthiest([one, two, set(3, 1, 3)]).heads).toHaveLength(3);
    expect(worthiest([one, set(2, 0.9, 0.7), set(3, 0.8, 9)])).toBe(one);
  });
});
