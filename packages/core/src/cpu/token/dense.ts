import { Worker } from "node:worker_threads";
import { kernelModule, kernels, type Kernels } from "../wasm/kernels.ts";
import { GROUP, KIND, type PackedMatrix } from "./packed-matrix.ts";
import { SharedMemory } from "../wasm/shared-memory.ts";

/** Floats in the shared memory, with the address by which kernels know them. */
export interface Floats {
  readonly address: number;
  readonly data: Float32Array;
}

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

/** The first bytes of the shared memory, where kernels/src/threads.ts keeps the state of the job at hand. */
const RESERVED_BYTES = 512;
/** Groups of rows that a thread takes at a time, at least: fewer cost more in handing over than they save. */
const SMALLEST_CHUNK = 8;
const CHUNKS_A_THREAD = 8;

/** The code of a worker, as text, so that a bundler needs no second file. */
const SERVE = `
const { workerData: { module, memory } } = require("node:worker_threads");
new WebAssembly.Instance(module, { env: { memory } }).exports.serve();
`;

/** Holds the kernels, their shared memory and their threads; computes products of one row. */
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
