import { MessageChannel } from "node:worker_threads";
import * as ort from "onnxruntime-node";
import { LongctxError } from "../../common/errors.ts";
import type { EncodedGraph } from "./graph.ts";

export type Feeds = Record<string, ort.Tensor>;

/** Sessions take turns all the time, so the threads of one must not spin after its run and keep the cores from the next. */
const SESSION_OPTIONS: ort.InferenceSession.SessionOptions = {
  executionMode: "sequential",
  interOpNumThreads: 1,
  graphOptimizationLevel: "all",
  // Every chunk has other lengths, so memory patterns would be recorded and never used again.
  enableMemPattern: false,
  logSeverityLevel: 3,
  extra: { session: { force_spinning_stop: "1", use_device_allocator_for_initializers: "1" } },
};

/** A compiled graph. */
export class Program {
  readonly #session: ort.InferenceSession;

  private constructor(session: ort.InferenceSession) {
    this.#session = session;
  }

  static async compile({ model, weights, release }: EncodedGraph, threads: number): Promise<Program> {
    try {
      return new Program(
        await ort.InferenceSession.create(model, {
          ...SESSION_OPTIONS,
          intraOpNumThreads: threads,
          externalData: [...weights],
        }),
      );
    } catch (cause) {
      throw new LongctxError(
        "device",
        `onnxruntime refused a graph of the cpu backend: ${String(cause instanceof Error ? cause.message : cause).split("\n", 1)[0]}`,
        { cause },
      );
    } finally {
      release();
    }
  }

  /** Runs the graph; outputs are written where the tensors in `outputs` lie. */
  async run(feeds: Feeds, outputs: Feeds): Promise<void> {
    const results = await this.#session.run(feeds, outputs);
    dropCopies(results, outputs);
  }

  async release(): Promise<void> {
    await this.#session.release();
  }
}

/** A port whose other end is closed: what is transferred to it is freed at once. */
const NOWHERE = closedPort();

function closedPort() {
  const { port1, port2 } = new MessageChannel();
  port1.unref();
  port2.unref();
  port2.close();
  return port1;
}

/**
 * Frees the copies that onnxruntime-node makes of all outputs, those that it was given arrays for too. Left to the garbage
 * collector they are megabytes a layer, and its threads take the cores from the next run's.
 */
function dropCopies(results: Readonly<Record<string, ort.OnnxValue>>, outputs: Feeds): void {
  const copies: ArrayBuffer[] = [];
  for (const [name, { data }] of Object.entries(results)) {
    const given = outputs[name]?.data;
    if (!ArrayBuffer.isView(data) || !ArrayBuffer.isView(given)) continue;
    const { buffer } = data;
    if (buffer !== given.buffer && buffer instanceof ArrayBuffer) copies.push(buffer);
  }
  NOWHERE.postMessage(null, copies);
}

/** Compiled graphs by key, at most `limit` of them; the least recently used is released first. */
export class ProgramCache {
  readonly #programs = new Map<string, Program>();
  readonly #limit: number;
  readonly #threads: number;

  constructor(limit: number, threads: number) {
    this.#limit = limit;
    this.#threads = threads;
  }

  async get(key: string, graph: () => EncodedGraph): Promise<Program> {
    const known = this.#programs.get(key);
    if (known) {
      this.#programs.delete(key); // a Map keeps the order of insertion, so setting it again makes it the most recent
      this.#programs.set(key, known);
      return known;
    }
    // The oldest is released before the new one is compiled, so that memory never holds more than `limit` copies of the weights.
    while (this.#programs.size >= this.#limit) {
      const [oldest, program] = this.#programs.entries().next().value!;
      this.#programs.delete(oldest);
      await program.release();
    }
    const program = await Program.compile(graph(), this.#threads);
    this.#programs.set(key, program);
    return program;
  }

  async release(): Promise<void> {
    const programs = [...this.#programs.values()];
    this.#programs.clear();
    await Promise.all(programs.map((program) => program.release()));
  }
}

export function floats(data: Float32Array, ...dims: readonly number[]): ort.Tensor {
  return new ort.Tensor("float32", data, dims);
}

export function integers(values: readonly number[], ...dims: readonly number[]): ort.Tensor {
  return new ort.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
}

/** A buffer that grows to the largest size asked for and is used again. */
export class Scratch {
  #data = new Float32Array();

  take(size: number): Float32Array {
    if (this.#data.length < size) this.#data = new Float32Array(size);
    return this.#data.subarray(0, size);
  }
}
