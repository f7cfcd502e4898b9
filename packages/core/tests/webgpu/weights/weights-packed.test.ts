import { describe, expect, it } from "vitest";
import { TENSOR_TYPES, type TensorType, type WeightTensor } from "@longctx/core";
import {
  packMatrices,
  storedBytes,
  type PackedMatrix,
  type PackOptions,
} from "../../../src/webgpu/weights/weights-packed.ts";
import { halves } from "../../../src/common/half.ts";
import { columnsOf } from "../products/product-scene.ts";
import { storedMatrix } from "./stored-weights.ts";

const large = { maxBinding: 2 ** 27 };

interface WholeMatrix extends PackedMatrix {
  readonly codes: Uint32Array;
  readonly scales: Uint32Array | null;
  /** How many pieces it came in, and the bytes of the largest. */
  readonly pieces: number;
  readonly largest: number;
}

/** What the device has in the end: every piece at its place. */
function wholeMatrices(tensors: readonly WeightTensor[], options: PackOptions): WholeMatrix[] {
  return Array.from(packMatrices(tensors, options), (part) => {
    const codes = new Uint8Array(part.codeBytes);
    const scales = new Uint8Array(part.scaleBytes);
    let [pieces, largest] = [0, 0];
    for (const piece of part.pieces()) {
      codes.set(new Uint8Array(piece.codes.buffer, 0, piece.codes.byteLength), piece.codesAt);
      if (piece.scales) scales.set(new Uint8Array(piece.scales.buffer, 0, piece.scales.byteLength), piece.scalesAt);
      largest = Math.max(largest, piece.stored);
      pieces++;
    }
    const words = (bytes: Uint8Array<ArrayBuffer>) => new Uint32Array(bytes.buffer);
    return { ...part, codes: words(codes), scales: part.scaleBytes > 0 ? words(scales) : null, pieces, largest };
  });
}

/** One weight out of a packed matrix, by what is written of its layout, one bit after another. */
function weightAt({ type, codes, scales: words, blocks }: WholeMatrix, row: number, column: number): number {
  const block = row * blocks + (column >> 5);
  const v = column & 31;
  const half = (word: number, high = 0) => halves()[(word >>> (16 * high)) & 0xffff];
  const byte = (array: Uint32Array, at: number) => (array[at >> 2] >>> (8 * (at & 3))) & 255;
  if (type === "F32") return new Float32Array(codes.buffer)[32 * block + v];
  const sixteen = codes[16 * block + (v >> 1)] >>> (16 * (v & 1));
  if (type === "F16") return half(sixteen);
  if (type === "BF16") return new Float32Array(Uint32Array.of(sixteen << 16).buffer)[0];
  const scales = words!;
  if (type === "Q8_0") return ((byte(codes, 32 * block + v) << 24) >> 24) * half(scales[block >> 1], block & 1);
  const low = (byte(codes, 16 * block + (v & 15)) >> (v < 16 ? 0 : 4)) & 15;
  const fifth = (word: number) => ((scales[word] >>> (8 * (v & 3) + (v >> 2))) & 1) << 4;
  const sub = block & 7;
  const superBlock = (size: number, code: number) => {
    const at = size * (block >> 3);
    return (
      half(scales[at]) * byte(scales, 4 * at + 4 + 2 * sub) * code -
      half(scales[at], 1) * byte(scales, 4 * at + 5 + 2 * sub)
    );
  };
  switch (type) {
    case "Q4_0":
      return half(scales[block >> 1], block & 1) * (low - 8);
    case "Q4_1":
      return half(scales[block]) * low + half(scales[block], 1);
    case "Q5_0": {
      const at = 3 * (block >> 1);
      return half(scales[at + 2], block & 1) * ((low | fifth(at + (block & 1))) - 16);
    }
    case "Q5_1":
      return half(scales[2 * block]) * (low | fifth(2 * block + 1)) + half(scales[2 * block], 1);
    case "Q4_K":
      return superBlock(5, low);
    case "Q5_K":
      return superBlock(13, low | fifth(13 * (block >> 3) + 5 + sub));
    case "Q6_K":
    default: {
      const at = 21 * (block >> 3);
      const high = (scales[at + 5 + 2 * sub + (v >> 4)] >>> (8 * (v & 3) + 2 * ((v >> 2) & 3))) & 3;
      const scale = (byte(scales, 4 * at + 4 + 2 * sub + (v >> 4)) << 24) >> 24;
      return half(scales[at]) * scale * ((low | (high << 4)) - 32);
    }
  }
}

describe.each(TENSOR_TYPES)("a packed matrix of %s", (type) => {
  const columns = columnsOf(type);
  const stored = storedMatrix(type, 5, columns, 3);

  it("holds the weights as they were stored", () => {
    const [packed, ...rest] = wholeMatrices([stored], large);
    expect(rest).toEqual([]);
    const expected = stored.toFloat32();
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(largest).toBeGreaterThan(0);
    for (let row = 0; row < 5; row++)
      for (let column = 0; column < columns; column++)
        expect(Math.abs(weightAt(packed, row, column) - expected[row * columns + column])).toBeLessThan(1e-7 * largest);
  });

  it("has the columns behind its last as zeros", () => {
    const [packed] = wholeMatrices([stored], large);
    for (let column = columns; column < 32 * packed.blocks; column++) expect(weightAt(packed, 2, column)).toBe(0);
  });
});

describe("matrices packed together", () => {
  const a = storedMatrix("Q4_0", 20, 64, 1);
  const b = storedMatrix("Q4_0", 20, 64, 2);
  const values = [a.toFloat32(), b.toFloat32()];

  it("lie one below the other, in parts of one type that a binding can hold", () => {
    const parts = wholeMatrices([a, b, storedMatrix("Q8_0", 3, 64)], { maxBinding: 512 });
    expect(parts.map(({ type, first, rows }) => [type, first, rows])).toEqual([
      ["Q4_0", 0, 16],
      ["Q4_0", 16, 16],
      ["Q4_0", 32, 8],
      ["Q8_0", 40, 3],
    ]);
    for (const { codes } of parts.slice(0, 3)) expect(codes.byteLength).toBeLessThanOrEqual(512);
    expect(weightAt(parts[1], 10, 33)).toBeCloseTo(values[1][6 * 64 + 33], 7);
  });

  it("lie row by row by turns when they are interleaved", () => {
    const [packed] = wholeMatrices([a, b], { ...large, interleave: true });
    for (let row = 0; row < 40; row++)
      expect(weightAt(packed, row, 7)).toBeCloseTo(values[row % 2][Math.floor(row / 2) * 64 + 7], 7);
  });

  it("are no larger than they were stored, but for the K types' scales", () => {
    const bytesOf = (type: TensorType) => {
      const [{ codes, scales }] = wholeMatrices([storedMatrix(type, 8, 512)], large);
      return (codes.byteLength + (scales?.byteLength ?? 0)) / storedMatrix(type, 8, 512).bytes().length;
    };
    for (const type of TENSOR_TYPES) expect(bytesOf(type)).toBeLessThan(type.endsWith("_K") ? 1.03 : 1.0001);
  });

  it("are refused when their rows are not whole blocks", () => {
    const broken = { ...a, shape: [20, 48] };
    expect(() => wholeMatrices([broken], large)).toThrow(/48 values, which are not whole blocks of Q4_0/);
  });
});

it.each(TENSOR_TYPES)("a large matrix of %s comes in pieces, and little of it is read at once", (type) => {
  const columns = columnsOf(type);
  const rowBytes = storedBytes(storedMatrix(type, 1, columns));
  const rows = Math.ceil((5 * 2 ** 19) / rowBytes) + 3;
  const stored = storedMatrix(type, rows, columns, 4);
  const bytes = stored.bytes();
  const reads: number[] = [];
  const read = (from: number, to: number) => {
    reads.push((to - from) * rowBytes);
    return bytes.subarray(from * rowBytes, to * rowBytes);
  };
  const inRows = { ...stored, rows: read, bytes: () => expect.unreachable("read as a whole") };
  const [packed] = wholeMatrices([inRows], large);
  expect(packed.pieces).toBeGreaterThanOrEqual(10);
  expect(packed.largest).toBeLessThanOrEqual(2 ** 18);
  expect(reads).toHaveLength(2);
  expect(Math.max(...reads)).toBeLessThanOrEqual(2 ** 21);
  expect(reads[0] + reads[1]).toBe(bytes.length);
  const expected = stored.toFloat32();
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const off = Array.from({ length: rows }, (_, row) => {
    const column = (7 * row) % columns;
    return Math.abs(weightAt(packed, row, column) - expected[row * columns + column]);
  });
  expect(off.findIndex((difference) => !(difference < 1e-7 * largest))).toBe(-1);
});
