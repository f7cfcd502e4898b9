import { expect, test } from "vitest";
import * as plain from "../src/common/half.ts";
import { fromHalves, toHalves } from "../src/cpu/wasm/halves.ts";
import { SharedMemory } from "../src/cpu/wasm/shared-memory.ts";
import { kernels } from "../src/cpu/wasm/kernels.ts";

const { halves } = plain;

test("every half-precision number survives", () => {
  const codes = Uint16Array.from({ length: 0x10000 }, (_, code) => code).filter((code) => (code & 0x7c00) !== 0x7c00);
  const numbers = new Float32Array(codes.length);
  fromHalves(codes, numbers);
  expect([...numbers.subarray(0, 3)]).toEqual([0, 2 ** -24, 2 ** -23]);
  expect(numbers[0x3c00]).toBe(1);
  expect(numbers[0x7bff]).toBe(65504);
  const slowly = new Float32Array(codes.length);
  plain.fromHalves(codes, slowly);
  expect(numbers.findIndex((number, i) => !Object.is(number, slowly[i]))).toBe(-1);
  const again = new Uint16Array(codes.length);
  toHalves(numbers, again);
  expect(again.findIndex((code, i) => code !== codes[i])).toBe(-1);
});

test("other numbers become the nearest one, ties the even one", () => {
  const values = halves();
  const positive = Array.from({ length: 0x7c00 }, (_, code) => code);
  const numbers = positive.slice(0, -1).flatMap((code) => {
    const [below, above] = [values[code], values[code + 1]];
    const middle = (below + above) / 2;
    const step = (above - below) / 8;
    return [middle, middle - step, middle + step, -middle];
  });
  const expected = positive.slice(0, -1).flatMap((code) => {
    const even = code + (code & 1);
    return [even, code, code + 1, 0x8000 | even];
  });
  const codes = new Uint16Array(numbers.length);
  toHalves(Float32Array.from(numbers), codes);
  expect(codes.findIndex((code, i) => code !== expected[i])).toBe(-1);
});

test("numbers too large become the largest, and a NaN stays one", () => {
  const codes = new Uint16Array(6);
  toHalves(Float32Array.of(65519, 65520, 1e30, -Infinity, NaN, 1e-30), codes);
  const numbers = new Float32Array(6);
  fromHalves(codes, numbers);
  expect([...numbers]).toEqual([65504, 65504, 65504, -65504, NaN, 0]);
  fromHalves(Uint16Array.of(0x7c00, 0xfc00), numbers);
  expect([...numbers.subarray(0, 2)]).toEqual([Infinity, -Infinity]);
});

test.each([
  [1, 1, 8],
  [3, 7, 64],
  [4, 13, 24],
])("scores of %i queries with %i keys of %i numbers in half precision", (heads, count, size) => {
  const memory = new SharedMemory(512);
  const floats = (length: number) => memory.floats(memory.allocate(4 * length), length);
  const wave = (_: unknown, i: number) => Math.sin(i * i) * 3;
  const [queries, keys, numbers] = [heads, count, count].map((rows) => floats(rows * size));
  const scores = floats(heads * (count + 2)).fill(-7);
  queries.set(Array.from(queries, wave));
  keys.set(Array.from(keys, wave));
  const codes = new Uint16Array(memory.memory.buffer, memory.allocate(2 * count * size).address, count * size);
  toHalves(keys, codes);
  fromHalves(codes, numbers);
  const expected = Array.from(scores, (before, i) => {
    const [head, key] = [Math.floor(i / (count + 2)), i % (count + 2)];
    if (key >= count) return before;
    let sum = 0;
    for (let j = 0; j < size; j++) sum += queries[head * size + j] * numbers[key * size + j];
    return sum / 2;
  });
  for (let i = 0; i < queries.length; i++) queries[i] *= 2 ** 112;
  const addresses = [queries.byteOffset, codes.byteOffset, scores.byteOffset] as const;
  kernels(memory.memory).scoreHalves(...addresses, heads, count, count + 2, size, 0.5);
  scores.forEach((score, i) => expect(score).toBeCloseTo(expected[i], 3));
});
