import { GROUP, KIND, type PackedMatrix } from "./packed-matrix.ts";
import { KernelThreads, type Floats } from "../wasm/kernel-threads.ts";

/** A row that products take as their input; kernels know it by its descriptor's address. */
export interface Row extends Floats {
  readonly descriptor: number;
}

/** Products of several matrices with one input row, outputs side by side. */
export interface Projection {
  readonly input: Row;
  readonly output: Floats;
  readonly products: readonly { readonly address: number; readonly blockSize: number }[];
}

/** Groups of rows that a thread takes at a time, at least: fewer cost more in handing over than they save. */
const SMALLEST_CHUNK = 8;
const CHUNKS_A_THREAD = 8;

/** About a millisecond: a thread is needed again within a layer, or not for long. */
const PATIENCE = 300_000;

/** Computes products of one row in the memory that kernels and their threads share. */
export class Dense extends KernelThreads {
  readonly exact: boolean;

  constructor(threads: number, exact: boolean) {
    super(threads, PATIENCE);
    this.exact = exact;
  }

  vector(values: Float32Array): Floats {
    const floats = this.floats(values.length);
    floats.data.set(values);
    return floats;
  }

  row(size: number): Row {
    const floats = this.floats(size);
    // The last two arrays hold a float for each block, and blocks have at least 16 columns.
    const parts = [2 * size, 2 * size, size / 4, size / 4].map((bytes) => this.memory.allocate(bytes).address);
    return { ...floats, descriptor: this.#integers([size, floats.address, ...parts]) };
  }

  projection(matrices: readonly PackedMatrix[], input: Row): Projection {
    const rows = matrices.reduce((sum, matrix) => sum + matrix.rows, 0);
    // Kernels write whole groups, so the last one may write up to GROUP − 1 floats beyond the output.
    const { address, data } = this.floats(rows + GROUP);
    const output = { address, data: data.subarray(0, rows) };
    let first = 0;
    const products = matrices.map((matrix) => {
      const { kind, blockSize, columns, minima, bytes } = matrix;
      const weights = this.memory.allocate(bytes).address;
      matrix.write(new Uint8Array(this.memory.memory.buffer, weights, bytes));
      const groups = Math.ceil(matrix.rows / GROUP);
      const descriptor = this.#integers([
        kind === KIND.floats ? kind : kind + Number(this.exact),
        groups,
        columns / blockSize,
        blockSize,
        Math.max(SMALLEST_CHUNK, Math.ceil(groups / (CHUNKS_A_THREAD * this.threads))),
        Number(minima),
        weights,
        input.descriptor,
        address + 4 * first,
      ]);
      first += matrix.rows;
      return { address: descriptor, blockSize };
    });
    return { input, output, products };
  }

  /** Fills the projection's output. */
  multiply({ input, products }: Projection): void {
    let written = 1; // the block size that the input was last quantised in; 1 stands for floats
    for (const { address, blockSize } of products) {
      if (blockSize !== written && blockSize !== 1) {
        this.functions.toIntegers(input.descriptor, blockSize);
        written = blockSize;
      }
      this.functions.multiply(address);
    }
  }

  #integers(values: readonly number[]): number {
    const { address } = this.memory.allocate(4 * values.length);
    new Int32Array(this.memory.memory.buffer, address, values.length).set(values);
    return address;
  }
}
