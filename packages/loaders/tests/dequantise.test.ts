import { readFileSync } from "node:fs";
import { LongctxError, TENSOR_TYPES, type TensorType } from "@longctx/core";
import { describe, expect, test } from "vitest";
import { dequantise } from "../src/tensor/dequantise.ts";
import { TENSOR_LAYOUTS } from "../src/tensor/tensor-layout.ts";

type Vectors = Record<TensorType, { bytes: string; values: string }>;
const vectors = JSON.parse(readFileSync(new URL("data/dequantise.json", import.meta.url), "utf8")) as Vectors;
const unpack = (text: string) => new Uint8Array(Buffer.from(text, "base64"));

describe("dequantise", () => {
  test.each(TENSOR_TYPES)("%s is bit for bit what the gguf package gives", (type) => {
    const bytes = unpack(vectors[type].bytes);
    const expected = new Uint32Array(unpack(vectors[type].values).buffer);
    const values = dequantise(type, bytes);
    const bits = new Uint32Array(values.buffer);
    expect(bits.length).toBe(expected.length);
    expect(bits.length).toBeGreaterThan(60);
    // Where a scale is NaN its sign and payload are the processor's affair; where bits are only copied they stay.
    const copied = TENSOR_LAYOUTS[type].values === 1;
    const isNaNBits = (word: number) => (word & 0x7fffffff) > 0x7f800000;
    const wrong = [...bits.keys()].filter(
      (i) => bits[i] !== expected[i] && (copied || !isNaNBits(bits[i]) || !isNaNBits(expected[i])),
    );
    expect(wrong.map((i) => [i, values[i]])).toEqual([]);
  });

  test("reads bytes that begin anywhere in a buffer", () => {
    for (const type of TENSOR_TYPES) {
      const bytes = unpack(vectors[type].bytes);
      const shifted = new Uint8Array(bytes.length + 1);
      shifted.set(bytes, 1);
      expect(dequantise(type, shifted.subarray(1))).toEqual(dequantise(type, bytes));
    }
  });

  test("refuses a part of a block", () => {
    expect(() => dequantise("Q4_K", new Uint8Array(143))).toThrow(LongctxError);
    expect(() => dequantise("Q4_K", new Uint8Array(143))).toThrow(
      "143 bytes are not a whole number of Q4_K blocks of 144 bytes",
    );
  });
});
