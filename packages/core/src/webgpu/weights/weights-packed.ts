import { LongctxError } from "../../common/errors.ts";
import type { TensorType, WeightTensor } from "../../model/weights.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { BLOCK, PACKED_LAYOUTS, type PackedLayout } from "./packed-layouts.ts";

/**
 * Weight matrices as the kernels read them: the stored numbers, only in another order. A row is cut into blocks of 32
 * columns (the last one of a float row is filled up with zeros). `codes` holds the numbers or quantised codes, block
 * after block; `scales` what the blocks are scaled by, and fifth and sixth bits. Apart, both are read in whole words.
 *
 * Codes of 4, 5 and 6 bits lie as in ggml's Q4_0: byte i of a block's 16 has value i in its low and value i + 16 in its
 * high half. The other bits of value v lie at 8 · (v mod 4) + v / 4 (5 bits, one word), or at 8 · (v mod 4) +
 * 2 · (v / 4 mod 4) of word v / 16 (6 bits), so that a shift and a mask bring them above four codes at once.
 */
export interface PackedMatrix {
  readonly type: TensorType;
  /** The row of the whole stack that is this part's first. */
  readonly first: number;
  readonly rows: number;
  readonly columns: number;
  /** Of a row: ⌈columns / 32⌉. */
  readonly blocks: number;
}

/** A packed matrix, or a part of one, on the device. */
export interface GpuMatrix extends PackedMatrix {
  readonly codes: GpuSlice;
  readonly scales: GpuSlice | null;
}

/** A packed matrix before anything of it is read. */
export interface PackedPart extends PackedMatrix {
  readonly codeBytes: number;
  /** 0 for floats. */
  readonly scaleBytes: number;
  /** A few rows at a time, so that what is held of a matrix does not grow with it; once, and part after part. */
  pieces(): Generator<PackedPiece, void, undefined>;
}

/** Some rows of a packed matrix; their words hold the next piece's as soon as that is asked for. */
export interface PackedPiece {
  readonly codes: Uint32Array<ArrayBuffer>;
  /** Null for floats. */
  readonly scales: Uint32Array<ArrayBuffer> | null;
  /** Bytes from the beginning of the matrix' codes, and of its scales. */
  readonly codesAt: number;
  readonly scalesAt: number;
  /** Bytes that these rows take in the checkpoint. */
  readonly stored: number;
}

export interface PackOptions {
  /** Bytes that one binding may have; a matrix beyond it comes in several parts. */
  readonly maxBinding: number;
  /** Of each two matrices row 0 of both, then row 1 of both: gate and up side by side, for products that join them. */
  readonly interleave?: boolean;
}

/** Stored bytes that are packed at once: a millisecond or so. */
const PIECE = 2 ** 18;
/** Stored bytes that are read at once. */
const WINDOW = 2 ** 21;
/** So many rows begin with a word of scales of their own, whatever the type. */
const ROW_STEP = 8;

/**
 * Stacks matrices of equal width into one, in parts that a binding can hold and that have one type each.
 * @throws LongctxError "file" when rows are not whole storage blocks
 */
export function* packMatrices(
  tensors: readonly WeightTensor[],
  options: PackOptions,
): Generator<PackedPart, void, undefined> {
  const { maxBinding, interleave = false } = options;
  let first = 0;
  for (const run of interleave ? [tensors] : runsOfOneType(tensors)) {
    const { type, shape, name } = run[0];
    const columns = shape[1];
    const layout = PACKED_LAYOUTS[type];
    if (columns % layout.values !== 0)
      throw new LongctxError("file", `${name} has rows of ${columns} values, which are not whole blocks of ${type}.`);
    if (interleave && run.some((tensor) => !canInterleave(tensor, run[0])))
      throw new Error(`${run.map((tensor) => tensor.name).join(" and ")} differ and cannot be interleaved.`);
    const rows = run.reduce((sum, tensor) => sum + tensor.shape[0], 0);
    const blocks = Math.ceil(columns / BLOCK);
    const rowBytes = (columns / layout.values) * layout.bytes;
    const stored = storedRows(run, rowBytes);
    const source = rowSource(run, interleave);
    const atOnce = stepsOf(maxBinding / (blocks * layout.codeWords * 4));
    for (let from = 0; from < rows; from += atOnce) {
      const matrix = { type, first: first + from, rows: Math.min(atOnce, rows - from), columns, blocks };
      const rowAt = (row: number) => stored(...source(from + row));
      yield {
        ...matrix,
        codeBytes: 4 * codeWordsOf(layout, matrix.rows * blocks),
        scaleBytes: 4 * scaleWordsOf(layout, matrix.rows * blocks),
        pieces: () => piecesOf(layout, matrix, rowBytes, rowAt),
      };
    }
    first += rows;
  }
}

/** Can the rows of both lie side by side? */
export function canInterleave(a: WeightTensor, b: WeightTensor): boolean {
  return a.type === b.type && a.shape[0] === b.shape[0] && a.shape[1] === b.shape[1];
}

/** Bytes of a tensor in the checkpoint. */
export function storedBytes({ type, shape }: WeightTensor): number {
  const { values, bytes } = PACKED_LAYOUTS[type];
  return (shape.reduce((product, size) => product * size, 1) / values) * bytes;
}

function* piecesOf(
  layout: PackedLayout,
  { rows, blocks }: PackedMatrix,
  rowBytes: number,
  rowAt: (row: number) => StoredRow,
): Generator<PackedPiece, void, undefined> {
  const atOnce = Math.min(rows, stepsOf(PIECE / rowBytes));
  const codes = new Uint32Array(codeWordsOf(layout, atOnce * blocks));
  const scales = new Uint32Array(scaleWordsOf(layout, atOnce * blocks));
  for (let from = 0; from < rows; from += atOnce) {
    const count = Math.min(atOnce, rows - from);
    scales.fill(0); // half of its last word may stay free
    for (let row = 0; row < count; row++) packRow(layout, rowAt(from + row), rowBytes, { codes, scales, blocks }, row);
    yield {
      codes: codes.subarray(0, codeWordsOf(layout, count * blocks)),
      scales: scales.length > 0 ? scales.subarray(0, scaleWordsOf(layout, count * blocks)) : null,
      codesAt: 4 * codeWordsOf(layout, from * blocks),
      scalesAt: 4 * scaleWordsOf(layout, from * blocks),
      stored: count * rowBytes,
    };
  }
}

/** A multiple of `ROW_STEP` rows, at least one. */
function stepsOf(rows: number): number {
  return Math.max(ROW_STEP, Math.floor(rows / ROW_STEP) * ROW_STEP);
}

function codeWordsOf({ codeWords }: PackedLayout, blocks: number): number {
  return blocks * codeWords;
}

function scaleWordsOf({ scaleWords, scaleBlocks }: PackedLayout, blocks: number): number {
  return Math.ceil(blocks / scaleBlocks) * scaleWords;
}

interface PackedWords {
  readonly codes: Uint32Array;
  readonly scales: Uint32Array;
  readonly blocks: number;
}

function packRow(layout: PackedLayout, { view, at }: StoredRow, bytes: number, out: PackedWords, row: number): void {
  const { pack, codeWords, values } = layout;
  const { codes, scales, blocks } = out;
  if (!pack) {
    const to = new Uint8Array(codes.buffer, row * blocks * codeWords * 4, bytes);
    to.set(new Uint8Array(view.buffer, view.byteOffset + at, bytes));
    return;
  }
  for (let block = 0; block < blocks; block += values / BLOCK, at += layout.bytes)
    pack(view, at, codes, scales, row * blocks + block);
}

/** Which tensor, and which row of it, is row n of the stack. */
function rowSource(tensors: readonly WeightTensor[], interleave: boolean): (row: number) => readonly [number, number] {
  if (interleave) {
    const height = 2 * tensors[0].shape[0];
    return (row) => [2 * Math.floor(row / height) + (row % 2), Math.floor((row % height) / 2)];
  }
  let tensor = 0;
  let before = 0;
  return (row) => {
    while (row - before >= tensors[tensor].shape[0]) before += tensors[tensor++].shape[0];
    return [tensor, row - before];
  };
}

/** A row's bytes as they are stored: those behind `at`. */
interface StoredRow {
  readonly view: DataView;
  readonly at: number;
}

/**
 * Rows of tensor n, read some at a time where the tensor can be, and let go of when those two tensors further on are
 * read: in that order they are packed.
 */
function storedRows(tensors: readonly WeightTensor[], rowBytes: number): (tensor: number, row: number) => StoredRow {
  const windows = new Map<number, { readonly first: number; readonly end: number; readonly view: DataView }>();
  const read = (tensor: WeightTensor, row: number) => {
    const rows = tensor.shape[0];
    if (!tensor.rows) return { first: 0, end: rows, view: viewOf(tensor.bytes()) };
    const end = Math.min(rows, row + Math.max(1, Math.floor(WINDOW / rowBytes)));
    return { first: row, end, view: viewOf(tensor.rows(row, end)) };
  };
  return (tensor, row) => {
    let window = windows.get(tensor);
    if (!window || row < window.first || row >= window.end) {
      windows.delete(tensor - 2);
      window = read(tensors[tensor], row);
      windows.set(tensor, window);
    }
    return { view: window.view, at: (row - window.first) * rowBytes };
  };
}

function runsOfOneType(tensors: readonly WeightTensor[]): WeightTensor[][] {
  const runs: WeightTensor[][] = [];
  for (const tensor of tensors) {
    if (runs.length > 0 && runs[runs.length - 1][0].type === tensor.type) runs[runs.length - 1].push(tensor);
    else runs.push([tensor]);
  }
  return runs;
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}
