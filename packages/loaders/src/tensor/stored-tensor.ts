import { LongctxError, type TensorType, type WeightTensor } from "@longctx/core";
import { allocated, type ByteSource } from "../common/byte-source.ts";
import { dequantise } from "./dequantise.ts";
import { TENSOR_LAYOUTS } from "./tensor-layout.ts";

/** A tensor in a file, read when it is asked for; the reader of the header has checked that it lies within the file. */
export class StoredTensor implements WeightTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #source: ByteSource;
  readonly #offset: number;

  constructor(
    source: ByteSource,
    place: { name: string; type: TensorType; shape: readonly number[]; offset: number; byteLength: number },
  ) {
    this.#source = source;
    this.#offset = place.offset;
    this.name = place.name;
    this.type = place.type;
    this.shape = place.shape;
    this.byteLength = place.byteLength;
  }

  /** The size of the first dimension; a vector has a row for each value. */
  get rowCount(): number {
    return this.shape[0] ?? 1;
  }

  /** Bytes of one row. @throws LongctxError "file" when a quantised block holds values of several rows */
  get rowBytes(): number {
    const { values } = TENSOR_LAYOUTS[this.type];
    const rowValues = this.shape.slice(1).reduce((product, size) => product * size, 1);
    if (rowValues % values !== 0)
      throw new LongctxError(
        "file",
        `${this.name} is a vector of the type ${this.type}, which cannot be taken apart; store it as F32.`,
      );
    return (rowValues / values) * TENSOR_LAYOUTS[this.type].bytes;
  }

  /** The same tensor as a matrix: stacked matrices [E, outputs, inputs] become [E · outputs, inputs]. */
  flattened(): StoredTensor {
    const { name, type, byteLength } = this;
    const columns = this.shape.at(-1) ?? 1;
    const rows = this.shape.slice(0, -1).reduce((product, size) => product * size, 1);
    return new StoredTensor(this.#source, { name, type, shape: [rows, columns], offset: this.#offset, byteLength });
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return this.#source.read(this.#offset, this.byteLength);
  }

  /** Rows [from, to) as they are stored. */
  rows(from: number, to: number): Uint8Array<ArrayBuffer> {
    const { rowBytes } = this;
    return this.#source.read(this.#offset + from * rowBytes, (to - from) * rowBytes);
  }

  toFloat32(): Float32Array {
    if (this.type !== "F32") return allocated(this.name, () => dequantise(this.type, this.bytes()));
    const values = allocated(this.name, () => new Float32Array(this.byteLength / 4));
    this.#source.readInto(new Uint8Array(values.buffer), this.#offset);
    return values;
  }
}

/**
 * Rows of a stored tensor, optionally in another order; rows are copied as they are stored, so quantised values stay
 * so.
 */
export class RowView implements WeightTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly shape: readonly number[];
  readonly #tensor: StoredTensor;
  readonly #from: number;
  readonly #order: ((row: number) => number) | undefined;

  /** `order(row)` is the row, counted from `from`, that row `row` of the view is taken from. */
  constructor(tensor: StoredTensor, view: { name: string; from: number; to: number; order?: (row: number) => number }) {
    this.name = view.name;
    this.type = tensor.type;
    this.shape = [view.to - view.from, ...tensor.shape.slice(1)];
    this.#tensor = tensor;
    this.#from = view.from;
    this.#order = view.order;
    void tensor.rowBytes; // throws when a block holds values of several rows
  }

  bytes(): Uint8Array<ArrayBuffer> {
    return this.rows(0, this.shape[0]);
  }

  /** Rows [from, to) of the view, as they are stored. */
  rows(from: number, to: number): Uint8Array<ArrayBuffer> {
    if (!this.#order) return this.#tensor.rows(this.#from + from, this.#from + to);
    const places = Array.from({ length: to - from }, (_, i) => this.#order!(from + i));
    // An order moves rows within a head only, so one read from the first to the last stored row reads little else.
    const first = places.reduce((a, b) => Math.min(a, b), Infinity);
    const last = places.reduce((a, b) => Math.max(a, b), -1);
    const stored = this.#tensor.rows(this.#from + first, this.#from + last + 1);
    const { rowBytes } = this.#tensor;
    const ordered = new Uint8Array(places.length * rowBytes);
    places.forEach((place, i) => {
      const at = (place - first) * rowBytes;
      ordered.set(stored.subarray(at, at + rowBytes), i * rowBytes);
    });
    return ordered;
  }

  toFloat32(): Float32Array {
    return allocated(this.name, () => dequantise(this.type, this.bytes()));
  }
}
