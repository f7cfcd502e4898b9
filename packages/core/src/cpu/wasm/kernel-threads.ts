import { Worker } from "node:worker_threads";
import { kernelModule, kernels, type Kernels } from "./kernels.ts";
import { SharedMemory, type Block } from "./shared-memory.ts";

/** Floats in the shared memory, with the address by which kernels know them. */
export interface Floats {
  readonly address: number;
  readonly data: Float32Array;
}

/** The first bytes of the shared memory, where kernels/src/threads.ts keeps the state of the job at hand. */
const RESERVED_BYTES = 512;
/** Where threads.ts reads how often a thread looks for work before it sleeps. */
const PATIENCE_ADDRESS = 208;

/** The code of a worker, as text, so that a bundler needs no second file. */
const SERVE = `
const { workerData: { module, memory } } = require("node:worker_threads");
new WebAssembly.Instance(module, { env: { memory } }).exports.serve();
`;

/** Holds the kernels, their shared memory and the threads that take part in their jobs. */
export class KernelThreads {
  readonly memory: SharedMemory = new SharedMemory(RESERVED_BYTES);
  readonly functions: Kernels;
  readonly threads: number;
  readonly #workers: readonly Worker[];

  /** A thread without work looks `patience` times for more before it sleeps; 300,000 times take about a millisecond. */
  constructor(threads: number, patience: number) {
    const { memory } = this.memory;
    new Int32Array(memory.buffer)[PATIENCE_ADDRESS / 4] = patience;
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

  async release(): Promise<void> {
    this.functions.stop();
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

/** A block of shared memory that grows to the largest size asked for; what it held is lost when it grows. */
export class SharedScratch {
  readonly #memory: SharedMemory;
  #block: Block | null = null;

  constructor(memory: SharedMemory) {
    this.#memory = memory;
  }

  /** Returns the address of so many bytes. */
  take(bytes: number): number {
    if (!this.#block || this.#block.bytes < bytes) {
      if (this.#block) this.#memory.release(this.#block);
      this.#block = this.#memory.allocate(Math.ceil(bytes * 1.5));
    }
    return this.#block.address;
  }
}
