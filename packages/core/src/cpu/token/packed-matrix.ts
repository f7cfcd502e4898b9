import type { QuantisedMatrix } from "../weights/quantised.ts";

/** Rows of a matrix that a kernel computes together. */
export const GROUP = 8;

/** What the dense kernels call a kind; `exact` adds 1 to those with codes. */
export const KIND = { floats: 0, fourBits: 1, eightBits: 3 } as const;

/** A matrix in the order in which the dense kernels read it: see kernels/src/products.ts. */
export interface PackedMatrix {
  readonly kind: (typeof KIND)[keyof typeof KIND];
  readonly rows: number;
  readonly columns: number;
  /** 1 for floats. */
  readonly blockSize: number;
  readonly minima: boolean;
  readonly bytes: number;
  /** Writes the matrix into `bytes` zeros. */
  write(to: Uint8Array): void;
}

export function packFloats(rows: number, columns: number, values: () => Float32Array): PackedMatrix {
  const groups = Math.ceil(rows / GROUP);
  return {
    kind: KIND.floats,
    rows,
    columns,
    blockSize: 1,
    minima: false,
    bytes: groups * GROUP * columns * 4,
    write(to) {
      const out = new Float32Array(to.buffer, to.byteOffset, to.byteLength / 4);
      const matrix = values();
      for (let row = 0; row < rows; row++) {
        const at = Math.floor(row / GROUP) * GROUP * columns + (row % GROUP);
        for (let column = 0; column < columns; column++) out[at + column * GROUP] = matrix[row * columns + column];
      }
    },
  };
}

/** Packs codes: 4-bit codes stay unsigned, 8-bit codes become signed by subtracting `zero`, which the minima make up for. */
export function packCodes(matrix: QuantisedMatrix): PackedMatrix {
  const { rows, columns, bits, blockSize } = matrix;
  const blocks = columns / blockSize;
  const zero = bits === 4 ? 0 : (matrix.zero ?? 16);
  const minima = matrix.zero !== zero;
  const codeBytes = (GROUP * blockSize * bits) / 8;
  const blockBytes = codeBytes + GROUP * 4 * (minima ? 2 : 1);
  const groups = Math.ceil(rows / GROUP);
  return {
    kind: bits === 4 ? KIND.fourBits : KIND.eightBits,
    rows,
    columns,
    blockSize,
    minima,
    bytes: groups * blocks * blockBytes,
    write(to) {
      const floats = new Float32Array(to.buffer, to.byteOffset, to.byteLength / 4);
      for (const { first, count, codes, scales, mins } of matrix.parts()) {
        for (let row = 0; row < count; row++) {
          const lane = (first + row) % GROUP;
          for (let block = 0; block < blocks; block++) {
            const at = (Math.floor((first + row) / GROUP) * blocks + block) * blockBytes;
            const from = row * columns + block * blockSize;
            if (bits === 4) writeFourBits(codes, from, blockSize, to, at, lane);
            else writeEightBits(codes, from, blockSize, zero, to, at, lane);
            const number = row * blocks + block;
            const factor = (at + codeBytes) / 4 + lane;
            floats[factor] = scales[number];
            if (minima) floats[factor + GROUP] = mins[number] + zero * scales[number];
          }
        }
      }
    },
  };
}

/** Eight columns of eight rows are 32 bytes: a 16-bit lane for each row and column parity, four bits a column. */
function writeFourBits(codes: Uint8Array, from: number, count: number, to: Uint8Array, at: number, lane: number): void {
  for (let i = 0; i < count; i += 4) {
    // Columns i and i + 2 share a byte of the even lane, i + 1 and i + 3 one of the odd lane.
    const place = at + (i >> 3) * 32 + lane * 4 + ((i >> 2) & 1);
    to[place] = codes[from + i] | (codes[from + i + 2] << 4);
    to[place + 2] = codes[from + i + 1] | (codes[from + i + 3] << 4);
  }
}

/** Eight columns of eight rows are 64 bytes: for four rows, pairs of columns one after another; then the other four. */
function writeEightBits(
  codes: Uint8Array,
  from: number,
  count: number,
  zero: number,
  to: Uint8Array,
  at: number,
  lane: number,
): void {
  const place = at + (lane >> 2) * 32 + (lane & 3) * 2;
  for (let i = 0; i < count; i += 2) {
    const pair = place + (i >> 3) * 64 + ((i >> 1) & 3) * 8;
    to[pair] = codes[from + i] - zero;
    to[pair + 1] = codes[from + i + 1] - zero;
  }
}
