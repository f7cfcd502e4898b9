import { expect, test } from "vitest";
import { Metric } from "../src/nearest/metric.ts";
import { clusteredKeys, queriesFor } from "./keys.ts";

const D = 12;
const KEYS = clusteredKeys(50, D, 1);
const EXAMPLES = Float32Array.from(queriesFor(200, D, 2).flatMap((query) => [...query]));
const row = (rows: Float32Array, i: number) => rows.subarray(i * D, (i + 1) * D);
const product = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const squared = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);

test("products of queries and keys stay as they are", () => {
  const metric = Metric.of(EXAMPLES, D)!;
  const keys = metric.ofKeys(KEYS);
  for (const query of queriesFor(10, D, 3)) {
    const moved = metric.ofQuery(query);
    for (let i = 0; i < 50; i++) expect(product(moved, row(keys, i))).toBeCloseTo(product(query, row(KEYS, i)), 3);
  }
});

test("keys are as far apart as the examples tell them apart, beside a little of their own distance", () => {
  const keys = Metric.of(EXAMPLES, D)!.ofKeys(KEYS);
  const size = EXAMPLES.reduce((sum, value) => sum + value ** 2, 0) / D;
  for (let i = 1; i < 50; i++) {
    const [a, b] = [row(KEYS, i - 1), row(KEYS, i)];
    let told = 0;
    for (let at = 0; at < EXAMPLES.length; at += D) {
      const query = EXAMPLES.subarray(at, at + D);
      told += (product(query, a) - product(query, b)) ** 2;
    }
    const expected = told / size + 0.05 * squared(a, b);
    expect(squared(row(keys, i - 1), row(keys, i)) / expected).toBeCloseTo(1, 4);
  }
});

test("examples that say nothing are no coordinates", () => {
  expect(Metric.of(new Float32Array(D), D)).toBe(null);
  expect(Metric.of(new Float32Array(0), D)).toBe(null);
  expect(Metric.of(new Float32Array(D).fill(NaN), D)).toBe(null);
});

test("a single example is enough for coordinates", () => {
  const metric = Metric.of(EXAMPLES.slice(0, D), D)!;
  const query = EXAMPLES.slice(D, 2 * D);
  const key = KEYS.slice(0, D);
  expect(product(metric.ofQuery(query), metric.ofKeys(key))).toBeCloseTo(product(query, key), 3);
});
