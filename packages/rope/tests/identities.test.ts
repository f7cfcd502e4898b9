import { beforeAll, describe, expect, it } from "vitest";
import { compose, type Method } from "@longctx/core";
import { dynamicNtk, interpolation, none, ntk, rerope, yarn } from "../src/index.ts";
import { largestDifference, readText, tinyBackend, tinyIds } from "../../core/tests/tiny-model.ts";

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
    [dynamicNtk({ factor: 4 })], // 40 tokens, T = 40
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
    [dynamicNtk({ factor: 2 })],
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
