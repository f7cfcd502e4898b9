import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { holm, mcnemar, newcombePaired, wilson } from "../src/index.ts";

describe("wilson", () => {
  // scipy 1.17 binomtest(k, n).proportion_ci(method="wilson"); 81/263, 15/148, 0/20, 1/29 are Newcombe 1998's examples
  it.each([
    [1, 1, 0.20654931437723745, 1],
    [5, 5, 0.5655175352168251, 1],
    [4, 5, 0.3755346297625253, 0.9637758913675698],
    [2, 5, 0.11762077423264794, 0.769275718723987],
    [0, 10, 0, 0.27753279986288926],
    [22, 25, 0.7004420607907268, 0.9583318284955965],
    [450, 500, 0.8705780903680599, 0.9233224372626984],
    [81, 263, 0.2552885198782742, 0.36620957698280004],
    [15, 148, 0.06238639953073629, 0.16048724172330803],
    [0, 20, 0, 0.16112515805281935],
    [1, 29, 0.006113214292762667, 0.17175521879320282],
  ])("%i of %i: %f to %f", (right, total, low, high) => {
    const interval = wilson(right, total);
    expect(interval.low).toBeCloseTo(low, 10);
    expect(interval.high).toBeCloseTo(high, 10);
  });

  it("holds the share, mirrors, and is everything without trials", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.nat(), (total, draw) => {
        const right = draw % (total + 1);
        const { low, high } = wilson(right, total);
        const mirrored = wilson(total - right, total);
        expect(low).toBeLessThanOrEqual(right / total);
        expect(high).toBeGreaterThanOrEqual(right / total);
        expect(low).toBeCloseTo(1 - mirrored.high, 12);
      }),
    );
    expect(wilson(0, 0)).toEqual({ low: 0, high: 1 });
    expect(() => wilson(3, 2)).toThrow(/3 right answers out of 2/);
  });
});

describe("mcnemar", () => {
  // scipy binomtest(min(b, c), b + c, 0.5).pvalue; 12 against 2 is Armitage and Berry's example (p = 0.0129)
  it.each([
    [5, 0, 0.0625],
    [6, 0, 0.03125],
    [12, 2, 0.012939453125],
    [3, 10, 0.09228515625],
    [120, 150, 0.07738939898021849],
    [40, 5, 7.878384167270269e-8],
    [1500, 1300, 0.00016841162264376235],
    [7, 7, 1],
    [0, 0, 1],
  ])("%i against %i", (onlyFirst, onlySecond, p) => {
    expect(mcnemar({ onlyFirst, onlySecond }) / p).toBeCloseTo(1, 6);
    expect(mcnemar({ onlyFirst: onlySecond, onlySecond: onlyFirst }) / p).toBeCloseTo(1, 6);
  });
});

describe("newcombePaired", () => {
  // Computed with scipy's Wilson intervals after the paper's formula; the first is its table III (0.0569 to 0.3404)
  it.each([
    [36, 12, 2, 0, 0.2, 0.0569295840032388, 0.3404276029749408],
    [43, 0, 1, 6, -0.02, -0.09788738836775637, 0.05175144176468949],
    [3, 1, 11, 35, -0.2, -0.3342411889918082, -0.06712295436838006],
    [20, 14, 6, 10, 0.16, -0.015522778609333987, 0.321537704230273],
    [0, 0, 0, 50, 0, -0.07134759913335872, 0.07134759913335872],
    [212, 144, 256, 707, -0.08491281273692192, -0.1141915328050671, -0.05543347268433288],
  ])("%i %i %i %i", (both, onlyFirst, onlySecond, neither, difference, low, high) => {
    const interval = newcombePaired({ both, onlyFirst, onlySecond, neither });
    expect(interval.difference).toBeCloseTo(difference, 10);
    expect(interval.low).toBeCloseTo(low, 8);
    expect(interval.high).toBeCloseTo(high, 8);
  });

  it("turns round with the methods", () => {
    const counts = fc.nat({ max: 60 });
    fc.assert(
      fc.property(counts, counts, counts, counts, (both, onlyFirst, onlySecond, neither) => {
        const one = newcombePaired({ both, onlyFirst, onlySecond, neither });
        const other = newcombePaired({ both, onlyFirst: onlySecond, onlySecond: onlyFirst, neither });
        expect(one.low).toBeCloseTo(-other.high, 10);
        expect(one.low).toBeLessThanOrEqual(one.difference);
        expect(one.low).toBeGreaterThanOrEqual(-1);
      }),
    );
  });
});

describe("holm", () => {
  it("multiplies by the number of tests left and never falls", () => {
    expect(holm([0.01, 0.04, 0.03, 0.005])).toEqual([0.03, 0.06, 0.06, 0.02]);
    expect(holm([0.9, 0.8])).toEqual([1, 1]);
    expect(holm([])).toEqual([]);
  });
});
