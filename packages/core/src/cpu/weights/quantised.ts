import { LongctxError } from "../../common/errors.ts";
import type { TensorType, WeightTensor } from "../../model/weights.ts";

/** Rows of a quantised matrix, unpacked: w = scale · code + min in each block of columns, with unsigned codes. */
interface Rows {
  /** [rows, K], one code a byte. */
  readonly codes: Uint8Array;
  /** [rows, K / blockSize]. */
  readonly scales: Float32Array;
  readonly mins: Float32Array;
}

/** How a GGUF type stores its blocks; all types have scale · code + min in common, so one product serves them all. */
interface Layout {
  readonly bits: 4 | 8;
  readonly blockSize: number;
  /** The code of the weight 0, where every block has the same: min = −zero · scale. */
  readonly zero?: number;
  /** Weights and bytes of a storage block. */
  readonly values: number;
  readonly bytes: number;
  /** Writes a storage block's codes from index `value` on, its scales and mins from index `block` on. */
  unpack(view: DataView, at: number, out: Rows, value: number, block: number): void;
}

/** Matrices of one type over one input, stacked to [N, K]; `parts` unpacks their numbers. */
export interface QuantisedMatrix {
  /** N outputs and K inputs. */
  readonly rows: number;
  readonly columns: number;
  readonly bits: 4 | 8;
  readonly blockSize: number;
  readonly zero: number | undefined;
  /** Unpacks `count` rows from row `first` on at a time; each part overwrites the one before. */
  parts(): Generator<Rows & { readonly first: number; readonly count: number }>;
}

/** Rows unpacked at once: a whole matrix would leave garbage that the process keeps. */
const ROWS_AT_ONCE = 128;

/** Does the backend compute with the type's codes? Matrices of other types are kept as float32. */
export function isQuantised(type: TensorType): boolean {
  return LAYOUTS[type] !== undefined;
}

export function quantisedMatrix(tensors: readonly WeightTensor[]): QuantisedMatrix {
  const [{ type, shape }] = tensors;
  const columns = shape[1];
  const layout = LAYOUTS[type];
  if (!layout || columns % layout.values !== 0) {
    throw new LongctxError(
      "file",
      `${tensors[0].name} has rows of ${columns} values, which are not whole blocks of ${type}.`,
    );
  }
  const { bits, blockSize, zero } = layout;
  const rows = tensors.reduce((sum, tensor) => sum + tensor.shape[0], 0);
  return {
    rows,
    columns,
    bits,
    blockSize,
    zero,
    *parts() {
      const size = Math.min(rows, ROWS_AT_ONCE) * columns;
      const out = emptyRows(size, blockSize);
      let before = 0;
      for (const tensor of tensors) {
        const stored = tensor.bytes();
        for (let row = 0; row < tensor.shape[0]; row += ROWS_AT_ONCE) {
          const count = Math.min(ROWS_AT_ONCE, tensor.shape[0] - row);
          unpackRows(layout, stored, row, count, columns, out);
          yield { ...out, first: before + row, count };
        }
        before += tensor.shape[0];
      }
    },
  };
}

function emptyRows(size: number, blockSize: number): Rows {
  return {
    codes: new Uint8Array(size),
    scales: new Float32Array(size / blockSize),
    mins: new Float32Array(size / blockSize),
  };
}

function unpackRows(layout: Layout, stored: Uint8Array, row: number, count: number, columns: number, out: Rows): void {
  const rowBytes = (columns / layout.values) * layout.bytes;
  const view = new DataView(stored.buffer, stored.byteOffset + row * rowBytes, count * rowBytes);
  const perStorageBlock = layout.values / layout.blockSize;
  for (let i = 0; i < (count * columns) / layout.values; i++)
    layout.unpack(view, i * layout.bytes, out, i * layout.values, i * perStorageBlock);
}

/** Dequantises one row of a matrix into `out`; `bytes` are the whole matrix as stored. */
export function dequantiseRow(
  type: TensorType,
  bytes: Uint8Array,
  row: number,
  columns: number,
  out: Float32Array,
): void {
  const layout = LAYOUTS[type]!;
  const { blockSize } = layout;
  const rows = emptyRows(columns, blockSize);
  unpackRows(layout, bytes, row, 1, columns, rows);
  const { codes, scales, mins } = rows;
  for (let i = 0; i < columns; i++) {
    const block = Math.floor(i / blockSize);
    out[i] = scales[block] * codes[i] + mins[block];
  }
}

/** All 65,536 numbers of IEEE half precision by their bits; looking up is faster than computing millions of scales. */
const HALVES = Float32Array.from({ length: 65536 }, (_, bits) => {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size =
    exponent === 0
      ? fraction * 2 ** -24
      : exponent === 31
        ? fraction
          ? NaN
          : Infinity
        : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -size : size;
});

function half(view: DataView, at: number): number {
  return HALVES[view.getUint16(at, true)];
}

/** Unpacks 32 codes from 16 bytes: the low nibbles are codes 0–15, the high ones 16–31. */
function nibbles(view: DataView, at: number, codes: Uint8Array, value: number): void {
  for (let i = 0; i < 16; i++) {
    const byte = view.getUint8(at + i);
    codes[value + i] = byte & 15;
    codes[value + 16 + i] = byte >> 4;
  }
}

/** Adds the fifth bits of 32 codes, which a block stores apart. */
function fifthBits(high: number, codes: Uint8Array, value: number): void {
  for (let i = 0; i < 32; i++) codes[value + i] |= ((high >>> i) & 1) << 4;
}

/** The 6-bit scale and minimum of sub-block j of Q4_K and Q5_K, packed into 12 bytes. */
function scaleAndMin(view: DataView, at: number, j: number): [number, number] {
  const byte = (i: number) => view.getUint8(at + i);
  if (j < 4) return [byte(j) & 63, byte(j + 4) & 63];
  return [(byte(j + 4) & 15) | ((byte(j - 4) >> 6) << 4), (byte(j + 4) >> 4) | ((byte(j) >> 6) << 4)];
}

function superBlock(view: DataView, at: number, out: Rows, block: number): void {
  const scale = half(view, at);
  const min = half(view, at + 2);
  for (let j = 0; j < 8; j++) {
    const [s, m] = scaleAndMin(view, at + 4, j);
    out.scales[block + j] = scale * s;
    out.mins[block + j] = -min * m;
  }
}

const LAYOUTS: Partial<Record<TensorType, Layout>> = {
  Q4_0: {
    bits: 4, blockSize: 32, zero: 8, values: 32, bytes: 18,
    unpack(view, at, out, value, block) {
      const scale = half(view, at);
      out.scales[block] = scale;
      out.mins[block] = -8 * scale;
      nibbles(view, at + 2, out.codes, value);
    },
  },
  Q4_1: {
    bits: 4, blockSize: 32, values: 32, bytes: 20,
    unpack(view, at, out, value, block) {
      out.scales[block] = half(view, at);
      out.mins[block] = half(view, at + 2);
      nibbles(view, at + 4, out.codes, value);
    },
  },
  Q5_0: {
    bits: 8, blockSize: 32, zero: 16, values: 32, bytes: 22,
    unpack(view, at, out, value, block) {
      const scale = half(view, at);
      out.scales[block] = scale;
      out.mins[block] = -16 * scale;
      nibbles(view, at + 6, out.codes, value);
      fifthBits(view.getUint32(at + 2, true), out.codes, value);
    },
  },
  Q5_1: {
    bits: 8, blockSize: 32, values: 32, bytes: 24,
    unpack(view, at, out, value, block) {
      out.scales[block] = half(view, at);
      out.mins[block] = half(view, at + 2);
      nibbles(view, at + 8, out.codes, value);
      fifthBits(view.getUint32(at + 4, true), out.codes, value);
    },
  },
  Q8_0: {
    bits: 8, blockSize: 32, zero: 128, values: 32, bytes: 34,
    unpack(view, at, out, value, block) {
      const scale = half(view, at);
      out.scales[block] = scale;
      out.mins[block] = -128 * scale;
      for (let i = 0; i < 32; i++) out.codes[value + i] = view.getInt8(at + 2 + i) + 128;
    },
  },
  Q4_K: {
    bits: 4, blockSize: 32, values: 256, bytes: 144,
    unpack(view, at, out, value, block) {
      superBlock(view, at, out, block);
      for (let j = 0; j < 4; j++) {
        for (let i = 0; i < 32; i++) {
          const byte = view.getUint8(at + 16 + 32 * j + i);
          out.codes[value + 64 * j + i] = byte & 15;
          out.codes[value + 64 * j + 32 + i] = byte >> 4;
        }
      }
    },
  },
  Q5_K: {
    bits: 8, blockSize: 32, values: 256, bytes: 176,
    unpack(view, at, out, value, block) {
      superBlock(view, at, out, block);
      for (let j = 0; j < 4; j++) {
        for (let i = 0; i < 32; i++) {
          const byte = view.getUint8(at + 48 + 32 * j + i);
          const high = view.getUint8(at + 16 + i) >> (2 * j);
          out.codes[value + 64 * j + i] = (byte & 15) | ((high & 1) << 4);
          out.codes[value + 64 * j + 32 + i] = (byte >> 4) | ((high & 2) << 3);
        }
      }
    },
  },
  Q6_K: {
    bits: 8, blockSize: 16, zero: 32, values: 256, bytes: 210,
    unpack(view, at, out, value, block) {
      const scale = half(view, at + 208);
      for (let j = 0; j < 16; j++) {
        out.scales[block + j] = scale * view.getInt8(at + 192 + j);
        out.mins[block + j] = -32 * out.scales[block + j];
      }
      for (let group = 0; group < 2; group++) {
        for (let i = 0; i < 32; i++) {
          const low = view.getUint8(at + 64 * group + i);
          const next = view.getUint8(at + 64 * group + 32 + i);
          const high = view.getUint8(at + 128 + 32 * group + i);
          const first = value + 128 * group + i;
          out.codes[first] = (low & 15) | ((high & 3) << 4);
          out.codes[first + 32] = (next & 15) | (((high >> 2) & 3) << 4);
          out.codes[first + 64] = (low >> 4) | (((high >> 4) & 3) << 4);
          out.codes[first + 96] = (next >> 4) | ((high >> 6) << 4);
        }
      }
    },
  },
}; // prettier-ignore
