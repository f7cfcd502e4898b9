import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { argmax, LongctxError, makeSampler, type SamplingOptions } from "@longctx/core";
import { uniformFloat64 } from "../src/common/random.ts";

interface Case {
  readonly options: SamplingOptions;
  readonly text: readonly number[];
  readonly logits: readonly number[];
  /** What transformers draws from, see data/make_sampling.py. */
  readonly probabilities: readonly number[];
}

const cases = JSON.parse(readFileSync(new URL("data/sampling.json", import.meta.url), "utf8")) as Case[];

function drawn(options: SamplingOptions, logits: Float32Array, text: readonly number[], count: number): number[] {
  const sampler = makeSampler(options);
  const counts = Array.from(logits, () => 0);
  for (let i = 0; i < count; i++) counts[sampler(logits, text)]++;
  return counts;
}

/** Probabilities by the textbook: sort everything, cut, renormalise. */
function plain(logits: Float32Array, { temperature = 1, topK = 0, topP = 1, minP = 0 }: SamplingOptions): number[] {
  const top = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp((logit - top) / temperature));
  let order = weights.map((_, id) => id).sort((a, b) => weights[b] - weights[a] || a - b);
  if (topK > 0) order = order.slice(0, topK);
  const sum = order.reduce((all, id) => all + weights[id], 0);
  let before = 0;
  order = order.filter((id, rank) => {
    const kept = rank === 0 || before < topP * sum - 1e-12;
    before += weights[id];
    return kept;
  });
  order = order.filter((id) => weights[id] >= minP);
  const kept = order.reduce((all, id) => all + weights[id], 0);
  return weights.map((weight, id) => (order.includes(id) ? weight / kept : 0));
}

/** Every count is where it has to be (chances are below 1e-9 for a right sampler), and nothing impossible was drawn. */
function expectCounts(counts: readonly number[], probabilities: readonly number[]): void {
  const total = counts.reduce((a, b) => a + b);
  const wrong = counts.flatMap((count, id) => {
    const p = probabilities[id];
    const bound = p === 0 ? 0 : 6 * Math.sqrt(total * p * (1 - p)) + 10;
    return Math.abs(count - total * p) > bound ? [`${id}: ${count} of ${total} at ${p}`] : [];
  });
  expect(wrong).toEqual([]);
}

describe("sampling", () => {
  it.each(cases)("draws from transformers' distribution: $options", ({ options, text, logits, probabilities }) => {
    expectCounts(drawn({ ...options, seed: 3 }, Float32Array.from(logits), text, 6000), probabilities);
  });

  it("draws from the textbook's distribution, also from a large flat vocabulary", () => {
    const options = fc.record({
      temperature: fc.constantFrom(0.2, 1, 3),
      topK: fc.constantFrom(0, 1, 4, 900),
      topP: fc.constantFrom(0.0, 0.1, 0.5, 0.95, 1),
      minP: fc.constantFrom(0, 0.05, 1),
    });
    fc.assert(
      fc.property(options, fc.nat(1000), fc.constantFrom(0, 0.01, 1, 6), (given, seed, spread) => {
        const uniform = uniformFloat64(seed);
        const logits = Float32Array.from({ length: 300 }, () => (uniform() - 0.5) * spread);
        expectCounts(drawn({ ...given, seed }, logits, [], 600), plain(logits, given));
      }),
      { numRuns: 40 },
    );
  });

  it("is the same for the same seed, and another for another", () => {
    const logits = Float32Array.from({ length: 64 }, (_, id) => Math.sin(id));
    const text = (seed: number) => {
      const sampler = makeSampler({ temperature: 1, seed });
      return Array.from({ length: 12 }, () => sampler(logits, []));
    };
    expect(text(7)).toEqual(text(7));
    expect(new Set([0, 1, 2, 3, 4].map((seed) => text(seed).join(" "))).size).toBe(5);
  });

  it("has no favourite at the first draw, whatever the seeds", () => {
    const even = Array.from({ length: 8 }, () => 1 / 8);
    const counts = even.map(() => 0);
    for (let seed = 0; seed < 2000; seed++) counts[makeSampler({ temperature: 1, seed })(new Float32Array(8), [])]++;
    expectCounts(counts, even);
  });

  it("without temperature takes the first of the largest", () => {
    const greedy = makeSampler();
    expect(greedy(Float32Array.of(1, 5, 3, 5), [])).toBe(1);
    expect(greedy(Float32Array.of(-Infinity, -3, Number.NaN), [])).toBe(1);
    expect(makeSampler({ temperature: 1, topK: 1 })(Float32Array.of(1, 5, 3, 5), [])).toBe(1);
    expect(argmax(Float32Array.of(-2, -1, -1))).toBe(1);
  });

  it("penalises each token of the text once, however often it is there", () => {
    const greedy = makeSampler({ repetitionPenalty: 2 });
    const logits = Float32Array.of(3, 2, -1, -1.5);
    expect(greedy(logits, [0, 0, 0])).toBe(1); // 1.5, 2, …
    expect(greedy(logits, [])).toBe(0);
    expect(makeSampler({ repetitionPenalty: 2 })(Float32Array.of(-1, -1.5), [0])).toBe(1); // −2, −1.5
    expect([...logits]).toEqual([3, 2, -1, -1.5]); // they stay the caller's
  });

  it.each([[[Number.NaN, Number.NaN]], [[-Infinity, -Infinity]]])("refuses the logits %j", (values) => {
    for (const temperature of [0, 1])
      expect(() => makeSampler({ temperature })(Float32Array.from(values), [])).toThrow(/not numbers/);
  });

  it("refuses to draw where a logit is infinite", () => {
    expect(() => makeSampler({ temperature: 1 })(Float32Array.of(Infinity, 1), [])).toThrow(LongctxError);
  });

  it.each<[SamplingOptions, RegExp]>([
    [{ temperature: -1 }, /temperature is -1/],
    [{ temperature: Number.NaN }, /temperature is NaN/],
    [{ topK: -1 }, /topK is -1/],
    [{ topK: 2.5 }, /topK is 2.5/],
    [{ topP: 1.1 }, /topP is 1.1/],
    [{ minP: -0.1 }, /minP is -0.1, but has to be a number from 0 to 1/],
    [{ repetitionPenalty: 0 }, /repetitionPenalty is 0, but has to be a number above 0/],
    [{ seed: 0.5 }, /seed is 0.5/],
  ])("refuses %o", (options, message) => {
    expect(() => makeSampler(options)).toThrow(message);
  });
});

it.each([
  [0, [0.5488135039273248, 0.7151893663724195, 0.6027633760716439]],
  [1, [0.417022004702574, 0.7203244934421581, 0.00011437481734488664]],
  [12345, [0.9296160928171479, 0.3163755545817859, 0.18391881167709445]],
])("uniform numbers of seed %i are numpy's", (seed, expected) => {
  const uniform = uniformFloat64(seed);
  expect(expected.map(() => uniform())).toEqual(expected);
});
