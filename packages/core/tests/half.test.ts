import { expect, test } from "vitest";
import { fromHalves, halves, toHalves } from "../src/common/half.ts";

test("every half-precision number survives", () => {
  const codes = Uint16Array.from({ length: 0x10000 }, (_, code) => code).filter((code) => (code & 0x7c00) !== 0x7c00);
  const numbers = new Float32Array(codes.length);
  fromHalves(codes, numbers);
  expect([...numbers.subarray(0, 3)]).toEqual([0, 2 ** -24, 2 ** -23]);
  expect(numbers[0x3c00]).toBe(1);
  expect(numbers[0x7bff]).toBe(65504);
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
  expect([...codes].map((code) => halves()[code])).toEqual([65504, 65504, 65504, -65504, NaN, 0]);
});
