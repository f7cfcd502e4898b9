import { Worker } from "node:worker_threads";
import { kernelModule, kernels, type Kernels } from "./kernels.ts";
import { GROUP, KIND, type PackedMatrix } from "./packed-matrix.ts";
import { SharedMemory } from "../memory/shared-memory.ts";

/** Floats in the memory of the kernels. */
export interface Floats {
  readonly address: number;
  readonly data: Float32Array;
}

/** A row that products take as their input. */
export interface Row extends Floats {
  readonly descriptor: number;
}

/** Matrices over one input, their outputs side by side. */
export interface Projection {
  readonly input: Row;
  readonly output: Floats;
  readonly products: readonly { readonly address: number; readonly blockSize: number }[];
}

/** Where the threads meet. */
const RESERVED_BYTES = 512;
/** At least so many groups of rows are worth the handing over. */
const SMALLEST_CHUNK = 8;
const CHUNKS_A_THREAD = 8;

/** All that a worker does; its code is text so that it needs no file of its own, whatever bundles this one. */
const SERVE = `
const { workerData: { module, memory } } = require("node:worker_threads");
new WebAssembly.Instance(module, { env: { memory } }).exports.serve();
`;

/** Products of one row, and what lies between them, in memory that several threads share. */
export class Dense {
  readonly memory: SharedMemory = new SharedMemory(RESERVED_BYTES);
  readonly functions: Kernels;
  readonly exact: boolean;
  readonly threads: number;
  readonly #workers: readonly Worker[];

  constructor(threads: number, exact: boolean) {
    const { memory } = this.memory;
    this.exact = exact;
    this.functions = kernels(memory);
    this.threads = threads;
    const workerData = { module: kernelModule(), memory };
    this.#workers = Array.from({ length: threads - 1 }, () => {
      const worker = new Worker(SERVE, { eval: true, execArgv: [], env: {}, workerData });
      worker.unref();
      return worker;
    });
  }

  floats(size: number): Floats {
    const { address } = this.memory.allocate(size * 4);
    return { address, data: this.memory.floats({ address }, size) };
  }

  vector(values: Float32Array): Floats {
    const floats = this.floats(values.length);
    floats.data.set(values);
    return floats;
  }

  row(size: number): Row {
    const floats = this.floats(size);
    // Blocks are of 16 columns or more.
    const parts = [2 * size, 2 * size, size / 4, size / 4].map((bytes) => this.memory.allocate(bytes).address);
    return { ...floats, descriptor: this.#integers([size, floats.address, ...parts]) };
  }

  projection(matrices: readonly PackedMatrix[], input: Row): Projection {
    const rows = matrices.reduce((sum, matrix) => sum + matrix.rows, 0);
    // The last group writes all its lanes.
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
    let written = 1; // the block size that the input's integers are in; 1 has none
    for (const { address, blockSize } of products) {
      if (blockSize !== written && blockSize !== 1) {
        this.functions.toIntegers(input.descriptor, blockSize);
        written = blockSize;
      }
      this.functions.multiply(address);
    }
  }

  async release(): Promise<void> {
    this.functions.stop();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  #integers(values: readonly number[]): number {
    const { address } = this.memory.allocate(4 * values.length);
    new Int32Array(this.memory.memory.buffer, address, values.length).set(values);
    return address;
  }
}
