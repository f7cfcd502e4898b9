import { beforeAll, describe, expect, it } from "vitest";
import { compose, type Method } from "@longctx/core";
import {
  dynamicNtk,
  interpolation,
  llama3,
  logn,
  longrope,
  none,
  ntk,
  ntkByParts,
  ntkMixed,
  power,
  rerope,
  truncation,
  yarn,
} from "../src/index.ts";
import { largestDifference, readText, tinyBackend, tinyIds } from "../../core/tests/tiny-model.ts";

/** The model rotates three pairs. */
const ONES = [1, 1, 1];
const ids = tinyIds(40);
const backend = tinyBackend({ trainedWindow: 40 });
const read = (method: Method, chunk?: number, trainedWindow = 40) =>
  readText(backend, compose(method), ids, { chunk, trainedWindow });
let plain: Float32Array;

beforeAll(async () => {
  plain = await readText(backend, compose(), ids);
});

describe("a method at its neutral setting is the model as it is", () => {
  it.each<[Method]>([
    [none()],
    [interpolation({ factor: 1 })],
    [ntk({ factor: 1 })],
    [yarn({ factor: 1 })],
    [yarn({ factor: 1, form: "paper" })],
    [ntkByParts({ factor: 1 })],
    [ntkMixed({ factor: 1 })],
    [llama3({ factor: 1 })],
    [truncation({ high: 0 })],
    [power({ k: 0 })],
    [longrope({ short: ONES, long: ONES, factor: 1 })],
    [longrope({ short: ONES, long: [2, 3, 4], factor: 1 })], // 40 tokens, T = 40
    [dynamicNtk({ factor: 4 })],
    [logn()],
    [rerope({ window: 40 })],
    [rerope({ window: 40, logn: 1 })],
  ])("$spec", async (method) => {
    expect(largestDifference(await read(method), plain)).toBeLessThan(1e-6);
  });
});

describe("a method at work", () => {
  it.each<[Method]>([
    [interpolation({ factor: 2 })],
    [ntk({ factor: 2 })],
    [yarn({ factor: 2 })],
    [yarn({ factor: 2, form: "paper" })],
    [ntkByParts({ factor: 2 })],
    [ntkMixed({ factor: 2 })],
    [llama3({ factor: 2 })],
    [truncation()],
    [power()],
    [longrope({ short: ONES, long: [1, 2, 3], factor: 2 })],
    [dynamicNtk({ factor: 2 })],
    [logn()],
    [rerope({ window: 8 })],
    [rerope({ window: 30 })],
  ])("$spec changes the logits, and chunks do not", async (method) => {
    const whole = await read(method, undefined, 20);
    expect(largestDifference(whole, plain)).toBeGreaterThan(1e-3);
    expect(largestDifference(await read(method, 7, 20), whole)).toBeLessThan(1e-6);
  });

  it("log-n scaling only touches queries beyond the trained window", async () => {
    const with20 = await read(rerope({ window: 8, logn: 1 }), undefined, 20);
    const without = await read(rerope({ window: 8 }), undefined, 20);
    expect(largestDifference(with20.subarray(0, 20 * 32), without.subarray(0, 20 * 32))).toBe(0);
    expect(largestDifference(with20.subarray(20 * 32), without.subarray(20 * 32))).toBeGreaterThan(1e-4);
  });
});
