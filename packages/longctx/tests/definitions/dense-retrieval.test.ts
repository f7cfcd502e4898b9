import { describe, expect, it } from "vitest";
import { printed } from "../../../core/tests/published-vectors.ts";
import { accepting, best, Report, type Seen } from "./choosing.ts";
import * as is from "./definitions.ts";
import { denseBlocks, mostAttended, upperBound, type Blocks } from "./dense-blocks.ts";
import { denseKnn, unit, type Knn } from "./dense-knn.ts";
import { attend, denseForward, denseLogits, type Attention } from "./dense-llama.ts";
import { difference, textOf } from "./judge.ts";
import { distinctText, goldenModel, randomModel } from "./judged-models.ts";

/** The judge of retrieval is judged: by published numbers, by hand, and by what it has to be the same as. */
const partial = randomModel("6 of 8 channels rotate", {
  vocabSize: 160,
  rope: { type: "default", base: 100, rotarySize: 6 },
});
const MODELS = [await goldenModel("llama"), await goldenModel("llama-odd-sizes"), partial];

const BLOCKS: Blocks = {
  size: 8,
  top: 2,
  local: 12,
  sinks: 2,
  representative: "mean",
  repr: 2,
  positions: "constant",
  query: "chunk",
  exec: 16,
  share: "heads",
};
const KNN: Knn = {
  layers: "all",
  k: 3,
  window: 12,
  sinks: 2,
  merge: "joint",
  keys: "raw",
  positions: "constant",
  gate: () => 0,
  scale: () => 1,
};

it("the bound of a page is Quest's", () => {
  const keys = [[3, -1], [-1, -4], [2, 1]]; // prettier-ignore
  expect(upperBound([1, -2], keys)).toBe(11);
  expect(upperBound([1, -2], keys.slice(2))).toBe(0);
});

it("the most attended tokens are those with the largest mass, the first of equals", () => {
  expect(mostAttended([0.1, 0.4, 0.2, 0.3], 2)).toEqual([1, 3]);
  expect(mostAttended([0.1, 0.4], 4)).toEqual([1, 0]);
  expect(() => mostAttended([0.1, 0.4, 0.4], 1)).toThrow("too near");
});

it("rows are normalised to a length of 1", () => {
  expect(printed(unit(Float64Array.of(3, 4)), 6)).toEqual([0.6, 0.8]);
});

describe.each(MODELS)("$name", (judged) => {
  const { llama } = judged;
  const ids = distinctText(judged, 75, 1);
  const text = textOf(llama, ids.length);
  const plain = is.define([], text);
  const dense = (...parts: readonly is.Part[]) => denseLogits(llama, ids, is.define(parts, text));
  const blocks = (changes: Partial<Blocks>, calls: readonly number[] = [75], attention: Attention = plain) =>
    denseBlocks(llama, { ...BLOCKS, ...changes }, attention).read(ids, calls);
  const knn = (changes: Partial<Knn>, attention: Attention = plain) =>
    denseKnn(llama, { ...KNN, ...changes }, attention).read(ids);
  const expectSame = (a: Float64Array, b: Float64Array) => expect(difference(a, b)).toBeLessThan(1e-10);

  it.each(["mean", "salient", "bounds"] as const)("all blocks in order are the plain model: %s", (representative) => {
    const expected = dense();
    for (const share of ["heads", "group", "none"] as const)
      for (const query of ["chunk", "token"] as const)
        expectSame(blocks({ representative, share, query, top: 9, positions: "ordered" }), expected);
  });

  it("tokens that ask for themselves are groups of one", () => {
    for (const changes of [{}, { share: "none", positions: "ordered" }, { representative: "salient" }] as const)
      expectSame(blocks({ ...changes, query: "token" }), blocks({ ...changes, exec: 1 }));
  });

  it("a block of one token has one representative", () => {
    const one = { size: 1, top: 5, query: "token", share: "group" } as const;
    for (const representative of ["salient", "bounds"] as const)
      expectSame(blocks({ ...one, representative }), blocks(one));
  });

  it("the mean of all tokens of a block by their mass is its mean", () => {
    expectSame(blocks({ representative: "salient", repr: 8 }), blocks({}));
  });

  it("every representative and every sharing is another choice", () => {
    const all = (["mean", "salient", "bounds"] as const).flatMap((representative) =>
      (["heads", "group", "none"] as const).map((share) => blocks({ representative, share, query: "token", top: 1 })),
    );
    all.forEach((one, i) => all.slice(0, i).forEach((other) => expect(difference(one, other)).toBeGreaterThan(0.01)));
  });

  it("mass is the attention of the queries in whose band a token is", () => {
    const { queryHeads, keyHeads } = llama;
    const massOf = (local: number) => {
      const sequence = denseBlocks(llama, { ...BLOCKS, representative: "salient", local, top: 0 }, plain);
      sequence.read(ids);
      return sequence.kept(1).mass.map((row) => [...row]);
    };
    // Everything is in the band, and the probabilities of a query have the sum 1.
    const sums = massOf(75).reduce((sum, row) => sum.map((x, i) => x + row[i]));
    expect(printed(sums, 10)).toEqual(Array.from({ length: keyHeads }, () => (75 * queryHeads) / keyHeads));
    // Only the token itself is in the band.
    const own = massOf(1);
    expect(printed(own[0], 10)).toEqual(Array.from({ length: keyHeads }, () => queryHeads / keyHeads));
    expect(Math.max(...own.slice(1).flat())).toBeLessThan(queryHeads / keyHeads);
  });

  it("k above all stored at true positions is the plain model, also under another table and temperature", () => {
    for (const parts of [[], [is.yarn(4)], [is.ntk(4), is.logn]])
      expectSame(knn({ k: 75, positions: "true" }, is.define(parts, text)), dense(...parts));
    expectSame(knn({ k: 75, window: 0, sinks: 0, positions: "true" }), dense());
  });

  it("k above all stored at one distance is a ceiling of the distances, or a step to 0", () => {
    expectSame(knn({ k: 75 }), dense(is.rerope(12)));
    expectSame(knn({ k: 75, positions: "none" }), dense({ g: (m, n) => (m - n < 12 ? m - n : n < 2 ? 12 : 0) }));
  });

  it("nothing found is LM-Infinite, and so are layers that do not retrieve and a closed gate", () => {
    const expected = dense(is.lmInfinite(2, 12));
    for (const changes of [
      { k: 0 },
      { k: 0, positions: "none" },
      { layers: [] },
      { merge: "gate", gate: () => -1e3 },
    ] as const)
      // prettier-ignore
      expectSame(knn(changes), expected);
    const { visible } = is.lmInfinite(2, 12);
    expectSame(knn({ k: 0, positions: "true" }), dense({ visible }));
  });

  it("layers that are named retrieve, and no others", () => {
    const retrieving = is.define([is.rerope(12)], text);
    const near = is.define([is.lmInfinite(2, 12)], text);
    const expected = denseForward(llama, ids, (layer, rows) =>
      attend(llama, ids.length, rows, layer === 1 ? retrieving : near, layer),
    );
    expectSame(knn({ k: 75, layers: [1] }), expected);
  });

  it.each(["constant", "true"] as const)(
    "a gate mixes a softmax of the found tokens with that of the others: %s positions",
    (positions) => {
      const gate = (layer: number, head: number) => layer - head / 2;
      const distance = positions === "true" ? {} : { g: (m: number, n: number) => Math.min(m - n, 12) };
      const near = is.define([{ ...distance, visible: (m, n) => n <= m && (n < 2 || m - n < 12) }], text);
      const far = is.define([{ ...distance, visible: (m, n) => n >= 2 && m - n >= 12 }], text);
      const expected = denseForward(llama, ids, (layer, rows) => {
        const [own, found] = [near, far].map((attention) => attend(llama, ids.length, rows, attention, layer));
        return own.map((x, at) => {
          const open = 1 / (1 + Math.exp(-gate(layer, Math.floor(at / llama.headSize) % llama.queryHeads)));
          return (1 - open) * x + open * (Number.isNaN(found[at]) ? 0 : found[at]); // an empty store reads 0
        });
      });
      expectSame(knn({ k: 75, merge: "gate", positions, gate }), expected);
    },
  );

  it("normalised keys under a scale of 0 are averaged, and differ from raw ones otherwise", () => {
    const { queryHeads, keyHeads, headSize } = llama;
    const open = { k: 75, merge: "gate", sinks: 0, gate: () => 1e3 } as const;
    const expected = denseForward(llama, ids, (_, { q, v }) => {
      const out = new Float64Array(q.length);
      for (let m = 12; m < 75; m++)
        for (let n = 0; n <= m - 12; n++)
          for (let j = 0; j < queryHeads * headSize; j++) {
            const keyHead = Math.floor(j / headSize / (queryHeads / keyHeads));
            out[m * queryHeads * headSize + j] += v[(n * keyHeads + keyHead) * headSize + (j % headSize)] / (m - 11);
          }
      return out;
    });
    expectSame(knn({ ...open, keys: "normalized", scale: () => 0 }), expected);
    const [one, two] = [1, 3].map((scale) => knn({ ...open, keys: "normalized", scale: () => scale }));
    expect(difference(one, two)).toBeGreaterThan(0.01);
    expect(difference(one, knn(open))).toBeGreaterThan(0.01);
  });

  it("heads find tokens of their own, by position", () => {
    const all = (["none", "constant", "true"] as const).map((positions) => knn({ positions }));
    for (const one of all) expect(difference(one, knn({ k: 75 }))).toBeGreaterThan(0.01);
    expect(difference(all[0], all[1])).toBeGreaterThan(0.01);
    expect(difference(all[1], all[2])).toBeGreaterThan(0.01);
  });
});

describe("a device's report", () => {
  const decision = {
    layer: 0,
    query: 9,
    heads: [1],
    candidates: [0, 1, 2, 3],
    scores: [1, 2, 2 - 1e-7, 0],
    count: 1,
  };
  const saw = (...softmax: number[]) => {
    const report = new Report();
    report.add(0, 9, 1, { softmax, gated: [] });
    return accepting(report, 1e-5);
  };

  it("is accepted within a tie, and refused beyond it or with another count", () => {
    expect(saw(1, 9).choose(decision)).toEqual([1]);
    expect(saw(2, 9).choose(decision)).toEqual([2]);
    expect(() => saw(0, 9).choose(decision)).toThrow("in place of");
    expect(() => saw(1, 2, 9).choose(decision)).toThrow("in place of");
    expect(() => saw(9).choose(decision)).toThrow("in place of");
    expect(best(decision.scores, 1)).toEqual([1]);
  });

  it("is compared with everything that a head sees", () => {
    const seen: Seen = { softmax: [1, 9], gated: [] };
    expect(() => saw(1, 9).saw!(0, 9, 1, seen)).not.toThrow();
    expect(() => saw(1, 8, 9).saw!(0, 9, 1, seen)).toThrow("(softmax)");
    expect(() => saw(1, 9).saw!(0, 9, 1, { ...seen, gated: [4] })).toThrow("(gated)");
    expect(() => saw(1, 9).saw!(0, 8, 1, seen)).toThrow("did not report");
  });
});
