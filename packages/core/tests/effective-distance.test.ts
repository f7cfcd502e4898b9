import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import {
  compose,
  constantPosition,
  distanceMatrix,
  effectiveDistance,
  frequencyTable,
  makeTable,
  planOfText,
  rotaryPairs,
  rotationAngle,
  TEXT_POSITION,
  type Method,
  type Segment,
} from "@longctx/core";
import { linearFrequencies } from "@longctx/rope-types";
import { tinyConfig } from "./tiny-model.ts";

const plain = compose();
const planned = (segments: NonNullable<Method["segments"]>): Method => ({
  spec: "planned",
  axes: ["visibility", "distance"],
  segments,
});
/** Distances from 3 to 5 become 2.5, and tokens farther away are not visible. */
const folded = planned((segments) =>
  segments.flatMap((segment) => [
    { ...segment, band: { from: 0, to: 3 } },
    { ...segment, queryPosition: constantPosition(2.5), keyPosition: constantPosition(0), band: { from: 3, to: 6 } },
  ]),
);
/** The first three tokens see each other. */
const ahead = planned((segments) =>
  segments.flatMap((segment): Segment[] => [
    segment,
    { ...segment, tokens: { from: 0, to: 3 }, queries: { from: 0, to: 3 }, band: { from: -Infinity, to: 0 } },
  ]),
);

describe("effectiveDistance", () => {
  it("is m − n for the plain model, NaN ahead", () => {
    expect(effectiveDistance(plain, 9, 2)).toBe(7);
    expect(effectiveDistance(plain, 2, 9)).toBeNaN();
  });

  it("follows the plan: fractions, bands and tokens ahead", () => {
    expect(Array.from({ length: 9 }, (_, n) => effectiveDistance(folded, 8, n))).toEqual(
      [NaN, NaN, NaN, 2.5, 2.5, 2.5, 2, 1, 0], // prettier-ignore
    );
    expect(effectiveDistance(ahead, 0, 2)).toBe(-2);
    expect(effectiveDistance(ahead, 0, 3)).toBeNaN();
  });

  it("keeps a checkpoint's sliding windows, layer by layer", () => {
    const config = tinyConfig({ slidingWindows: [4, null] });
    expect(effectiveDistance(plain, 9, 2, { config, layer: 0 })).toBeNaN();
    expect(effectiveDistance(plain, 9, 2, { config, layer: 1 })).toBe(7);
  });

  it.each<readonly [() => unknown, string]>([
    [() => effectiveDistance(plain, -1, 0), "query is -1"],
    [() => effectiveDistance(plain, 1, 0.5), "token is 0.5"],
    [() => effectiveDistance(plain, 9, 0, { length: 8 }), "query is 9.*0 to 7"],
    [() => effectiveDistance(plain, 1, 0, { layer: 1 }), "layer is 1"],
    [() => rotationAngle(plain, 1, 0, 32), "pair is 32.*0 to 31"],
    [() => frequencyTable(plain, { rope: { rotarySize: 7 } }), "rotarySize is 7"],
    [() => frequencyTable(plain, { rope: { base: -1 } }), "base is -1"],
    [() => frequencyTable(plain, { trainedWindow: 0 }), "trainedWindow is 0"],
    ...[1, 0.5, 0, Number.NaN, Infinity].map(
      (base) => [() => frequencyTable(plain, { rope: { base } }), `base is ${base}.*above 1`] as const,
    ),
    [() => distanceMatrix(plain, 4, { tokens: [4] }), "token is 4"],
    ...[-3, 0, 0.5, Number.NaN, Infinity].flatMap((length) =>
      [frequencyTable, rotaryPairs, planOfText].map(
        (ask) => [() => ask(plain, { length }), `length is ${length}.*at least 1`] as const,
      ),
    ),
  ])("refuses what is outside %#", (act, message) => {
    expect(act).toThrow(new RegExp(message));
  });
});

describe("rotationAngle", () => {
  it("is distance times frequency", () => {
    const rope = { base: 1e4, rotarySize: 8 };
    for (let i = 0; i < 4; i++) expect(rotationAngle(plain, 12, 5, i, { rope })).toBeCloseTo(7 * 10 ** -i, 12);
    expect(rotationAngle(folded, 8, 3, 1, { rope })).toBeCloseTo(0.25, 12);
    expect(rotationAngle(plain, 5, 12, 0, { rope })).toBeNaN();
  });

  it("takes a checkpoint's own scaling, and a method's in its place", () => {
    const config = tinyConfig({ rope: { type: "linear", base: 1e4, rotarySize: 6, factor: 2 } });
    expect(frequencyTable(plain, { config }).inverse).toEqual(linearFrequencies(1e4, 6, 2));
    const still: Method = {
      spec: "still",
      axes: ["frequencies"],
      frequencies: () => makeTable(new Float64Array(3), 2),
    };
    expect(frequencyTable(still, { config })).toMatchObject({ amplitude: 2 });
    expect(rotationAngle(still, 5, 1, 0, { config })).toBe(0);
  });
});

describe("distanceMatrix", () => {
  it("is every pair, or those asked for", () => {
    const { values } = distanceMatrix(ahead, 4);
    expect([...values]).toEqual([0, -1, -2, NaN, 1, 0, -1, NaN, 2, 1, 0, NaN, 3, 2, 1, 0]);
    const some = distanceMatrix(folded, 100_000, { queries: [99_999], tokens: [0, 99_995, 99_998] });
    expect([...some.values]).toEqual([NaN, 2.5, 1]);
  });
});

describe("rotaryPairs", () => {
  const rope = { base: 1e4, rotarySize: 8 }; // wavelengths 6.3, 63, 628, 6283

  it("finds the pairs that never complete a turn, and what leaves their range", () => {
    const { pairs, trainedReach, distance } = rotaryPairs(plain, { rope, trainedWindow: 1000, length: 3000 });
    expect(trainedReach).toBe(1000);
    expect(distance).toEqual({ least: 0, most: 2999 });
    expect(pairs.map(({ critical }) => critical)).toEqual([false, false, false, true]);
    expect(pairs.map(({ inDistribution }) => inDistribution)).toEqual([true, true, true, false]);
    expect(pairs[3].turnsBefore).toBeCloseTo(1000 / 6283.185, 6);
    expect(pairs[3].reachedAngle.most).toBeCloseTo(2.999, 9);
    const [last] = rotaryPairs(plain, { rope, trainedWindow: 1000, length: 1000 }).pairs.slice(-1);
    expect(last.inDistribution).toBe(true);
  });

  it("a frequency or a distance method brings them back", () => {
    const slower: Method = {
      spec: "slower",
      axes: ["frequencies"],
      frequencies: ({ rope: { base, rotarySize } }) => makeTable(linearFrequencies(base, rotarySize, 3)),
    };
    const within = (method: Method, length: number) =>
      rotaryPairs(method, { rope, trainedWindow: 1000, length }).pairs.every((pair) => pair.inDistribution);
    expect(within(slower, 3000)).toBe(true);
    expect(within(slower, 3003)).toBe(false);
    expect(within(folded, 50_000)).toBe(true);
    expect(within(ahead, 1000)).toBe(false); // Training has no negative angles.
  });

  it("counts an extension the checkpoint was trained with, and a sliding window of all layers", () => {
    const reach = (changes: Parameters<typeof tinyConfig>[0]) =>
      rotaryPairs(plain, { config: tinyConfig(changes), length: 8 }).trainedReach;
    const yarn = { type: "yarn", base: 100, rotarySize: 6, factor: 4, originalMaxPositions: 32 } as const;
    expect(reach({})).toBe(32);
    expect(reach({ rope: yarn, maxPositions: 128 })).toBe(128);
    expect(reach({ slidingWindows: [8, 16] })).toBe(16);
    expect(reach({ slidingWindows: [8, null] })).toBe(32);
    expect(reach({ rope: { type: "dynamic", base: 100, rotarySize: 6, factor: 4 } })).toBe(32);
  });

  it("reaches the extremes of the matrix, whatever the plan", () => {
    const range = fc.tuple(fc.integer({ min: -4, max: 30 }), fc.integer({ min: 0, max: 30 })).map(([from, size]) => ({
      from,
      to: from + size,
    }));
    const rule = fc.oneof(
      fc.constant(TEXT_POSITION),
      fc.integer({ min: 0, max: 9 }).map(constantPosition),
      fc.integer({ min: 2, max: 5 }).map((size) => ({ id: `mod${size}`, at: (token: number) => token % size })),
    );
    const segment = fc.record({
      tokens: fc.oneof(
        range,
        fc.uniqueArray(fc.integer({ min: 0, max: 40 })).map((list) => Int32Array.from(list).sort()),
      ),
      queries: fc.option(range, { nil: undefined }),
      band: range,
      queryPosition: rule,
      keyPosition: rule,
    });
    fc.assert(
      fc.property(segment, fc.integer({ min: 1, max: 40 }), (made, length) => {
        const method = planned(([base]) => [{ ...base, ...made }]);
        const seen = distanceMatrix(method, length).values.filter((value) => !Number.isNaN(value));
        const { distance } = rotaryPairs(method, { length });
        expect(distance).toEqual({ least: Math.min(...seen), most: Math.max(...seen) });
      }),
    );
  });
});
