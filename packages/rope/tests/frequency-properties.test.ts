import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { compose, LongctxError, type Method } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";
import {
  dynamicNtk,
  interpolation,
  llama3,
  longrope,
  ntk,
  ntkByParts,
  ntkMixed,
  power,
  truncation,
  yarn,
} from "../src/index.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { relativeError, tableOf, type Head } from "./tables.ts";

const heads: fc.Arbitrary<Required<Head>> = fc.record({
  d: fc.integer({ min: 1, max: 64 }).map((pairs) => 2 * pairs),
  base: fc.double({ min: 1.5, max: 1e7, noNaN: true }),
  trainedWindow: fc.integer({ min: 2, max: 1 << 20 }),
});
const lengths = fc.integer({ min: 1, max: 1 << 24 });
const factors = fc.double({ min: 1, max: 1000, noNaN: true });
const exponents = fc.double({ min: 0, max: 4, noNaN: true });
const turns = fc
  .tuple(fc.double({ min: 0.01, max: 64, noNaN: true }), fc.double({ min: 1.01, max: 100, noNaN: true }))
  .map(([low, times]) => ({ low, high: low * times }));

/** Whether each value is at most its bound, apart from rounding. */
const atMost = (values: Float64Array, bounds: Float64Array) =>
  values.every((value, i) => value <= bounds[i] * (1 + 1e-12));
const falls = (values: Float64Array) => atMost(values.subarray(1), values);
const plainOf = (head: Required<Head>) => defaultFrequencies(head.base, head.d);

/** Methods whose frequencies lie between those of RoPE and those of interpolation by their factor. */
const BETWEEN: readonly (readonly [string, (factor: number) => fc.Arbitrary<Method>])[] = [
  ["interpolation", (factor) => fc.constant(interpolation({ factor }))],
  ["ntk", (factor) => fc.constant(ntk({ factor }))],
  ["ntk-by-parts", (factor) => fc.constant(ntkByParts({ factor }))],
  ["ntk-mixed", (factor) => exponents.map((beta) => ntkMixed({ factor, beta }))],
  ["llama3", (factor) => turns.map((bands) => llama3({ factor, ...bands }))],
  ...(["code", "paper"] as const).map((form) => {
    const options = fc.record({ turns, truncate: form === "code" ? fc.nat(1) : fc.constant(1) });
    const made = (factor: number) =>
      options.map(({ turns: { low, high }, truncate }) =>
        yarn({ factor, beta_slow: low, beta_fast: high, form, truncate }),
      );
    return [`yarn:form=${form}`, made] as const;
  }),
];

describe("every pair turns at most as fast as under RoPE, at least as fast as under interpolation, and in order", () => {
  it.each(BETWEEN)("%s", (_, made) => {
    const methods = factors.chain((factor) => fc.record({ factor: fc.constant(factor), method: made(factor) }));
    fc.assert(
      fc.property(methods, heads, ({ factor, method }, head) => {
        const { inverse, amplitude } = tableOf(method, head);
        const plain = plainOf(head);
        const interpolated = plain.map((frequency) => frequency / factor);
        expect([falls(inverse), atMost(inverse, plain), atMost(interpolated, inverse)]).toEqual([true, true, true]);
        expect(amplitude).toBeGreaterThanOrEqual(1);
      }),
    );
  });
});

describe("dynamic ntk", () => {
  it("is RoPE within the trained window and only slows as the text grows beyond it", () => {
    fc.assert(
      fc.property(factors, heads, lengths, lengths, (factor, head, a, b) => {
        const method = dynamicNtk({ factor });
        const [early, late] = [Math.min(a, b), Math.max(a, b)].map((length) => tableOf(method, head, length).inverse);
        expect([falls(late), atMost(late, early)]).toEqual([true, true]);
        const within = tableOf(method, head, Math.min(a, head.trainedWindow)).inverse;
        expect(relativeError(within, plainOf(head))).toBeLessThan(1e-12);
      }),
    );
  });
});

describe("longrope", () => {
  const lists = heads.chain((head) => {
    const pairs = { minLength: head.d / 2, maxLength: head.d / 2 };
    const divisors = fc.array(fc.double({ min: 0.5, max: 1000, noNaN: true }), pairs);
    return fc.record({ head: fc.constant(head), short: divisors, long: divisors });
  });

  it("divides by one of its lists, with √(1 + ln s / ln T) on cos and sin", () => {
    fc.assert(
      fc.property(lists, factors, lengths, ({ head, short, long }, factor, length) => {
        const { inverse, amplitude } = tableOf(longrope({ short, long, factor }), head, length);
        const list = length > head.trainedWindow ? long : short;
        const expected = list.map((divisor, i) => head.base ** ((-2 * i) / head.d) / divisor);
        expect(relativeError(inverse, expected)).toBeLessThan(1e-12);
        expect(amplitude ** 2).toBeCloseTo(1 + Math.log(factor) / Math.log(head.trainedWindow), 9);
      }),
    );
  });
});

describe("power", () => {
  it("keeps the fastest pair and slows the others, the more the slower they are", () => {
    fc.assert(
      fc.property(exponents, heads, (k, head) => {
        const { inverse } = tableOf(power({ k }), head);
        const plain = plainOf(head);
        const slowing = inverse.map((frequency, i) => frequency / plain[i]);
        expect(slowing[0]).toBe(1);
        expect(slowing.every((ratio) => ratio > 0) && falls(slowing)).toBe(true);
      }),
    );
  });
});

describe("truncation", () => {
  it("keeps what completes a turn in the trained window; the rest has one rate or none", () => {
    fc.assert(
      fc.property(heads, (head) => {
        const { inverse } = tableOf(truncation(), head);
        const turn = (2 * Math.PI) / head.trainedWindow;
        const plain = plainOf(head);
        const kept = plain.filter((frequency) => frequency >= turn);
        const slowed = plain.filter((frequency) => frequency < turn && frequency >= turn / 8);
        expect([...inverse.subarray(0, kept.length)]).toEqual([...kept]);
        expect(inverse.filter((frequency, i) => i >= kept.length && frequency === turn / 16)).toHaveLength(
          slowed.length,
        );
        expect(inverse.filter((frequency) => frequency === 0)).toHaveLength(plain.length - kept.length - slowed.length);
        expect(falls(inverse) && atMost(inverse, plain)).toBe(true);
      }),
    );
  });

  it("refuses bands out of order, whether they are given or follow from the model", () => {
    const band = fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { nil: undefined });
    const bands = fc.record({ low: band, high: band, rho: band });
    fc.assert(
      fc.property(bands, fc.integer({ min: 1, max: 1 << 20 }), (given, trainedWindow) => {
        const high = given.high ?? (2 * Math.PI) / trainedWindow;
        const ordered = (given.low ?? 0) <= high && (given.rho ?? 0) <= high;
        expect(accepts(() => compose(truncation(given)).check({ config: tinyConfig(), trainedWindow }))).toBe(ordered);
      }),
    );
  });
});

function accepts(act: () => unknown): boolean {
  try {
    act();
    return true;
  } catch (error) {
    if (error instanceof LongctxError && error.code === "method") return false;
    throw error;
  }
}
