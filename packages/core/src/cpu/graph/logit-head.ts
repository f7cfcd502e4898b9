import type { ModelSource } from "../weights/model-source.ts";
import { Graph } from "./graph.ts";
import { head } from "./layers.ts";
import { floats, Program } from "./runtime.ts";

/** Up to so many rows go through the kernels, which is sooner than compiling a graph that holds the head a second time. */
const FEW_ROWS = 8;
/** Rows multiplied at once. */
const ROWS_AT_ONCE = 128;

/** Computes the logits of single rows in kernels; the `TokenDecoder` does. */
export interface RowHead {
  /** Logits [V] of a row behind the final norm; valid until the next ones. */
  logits(row: Float32Array): Float32Array;
}

/** Computes the logits of rows behind the final norm. */
export class LogitHead {
  readonly #source: ModelSource;
  readonly #threads: number;
  readonly #rowHead: () => RowHead | null;
  #program: Program | null = null;

  constructor(source: ModelSource, threads: number, rowHead: () => RowHead | null) {
    this.#source = source;
    this.#threads = threads;
    this.#rowHead = rowHead;
  }

  /** `normed` [rows, hidden] → `logits` [rows, V]. */
  async run(normed: Float32Array, logits: Float32Array, rows: number): Promise<void> {
    const { hiddenSize, vocabSize } = this.#source.config;
    const rowHead = rows <= FEW_ROWS && !this.#program ? this.#rowHead() : null;
    const step = rowHead ? 1 : ROWS_AT_ONCE;
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const from = normed.subarray(row * hiddenSize, (row + count) * hiddenSize);
      const to = logits.subarray(row * vocabSize, (row + count) * vocabSize);
      if (rowHead) to.set(rowHead.logits(from));
      else await this.#multiply(from, to, count);
    }
  }

  async #multiply(normed: Float32Array, logits: Float32Array, rows: number): Promise<void> {
    const { hiddenSize, vocabSize } = this.#source.config;
    this.#program ??= await Program.compile(this.#graph().encode(), this.#threads);
    await this.#program.run(
      { normed: floats(normed, 1, rows, hiddenSize) },
      { logits: floats(logits, 1, rows, vocabSize) },
    );
  }

  #graph(): Graph {
    const graph = new Graph();
    graph.op("Identity", [head(graph, this.#source, graph.input("normed", 3))], {}, "logits");
    graph.output("logits");
    return graph;
  }

  async release(): Promise<void> {
    await this.#program?.release();
    this.#program = null;
  }
}
