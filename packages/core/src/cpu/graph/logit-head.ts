import { Graph } from "./graph.ts";
import { head, type Parts } from "./layers.ts";
import { floats, Program } from "./runtime.ts";
import type { TokenDecoder } from "../token/token-decoder.ts";

/** As many rows are sooner through the kernels than a graph is compiled that holds the head a second time. */
const FEW_ROWS = 8;
/** Rows multiplied at once. */
const ROWS_AT_ONCE = 128;

/** Logits of rows behind the final norm. */
export class LogitHead {
  readonly #parts: Parts;
  readonly #threads: number;
  readonly #token: () => TokenDecoder | null;
  #program: Program | null = null;

  constructor(parts: Parts, threads: number, token: () => TokenDecoder | null) {
    this.#parts = parts;
    this.#threads = threads;
    this.#token = token;
  }

  /** `normed` [rows, hidden] → `logits` [rows, V]. */
  async run(normed: Float32Array, logits: Float32Array, rows: number): Promise<void> {
    const { hiddenSize, vocabSize } = this.#parts.config;
    const token = rows <= FEW_ROWS && !this.#program ? this.#token() : null;
    const step = token ? 1 : ROWS_AT_ONCE;
    for (let row = 0; row < rows; row += step) {
      const count = Math.min(step, rows - row);
      const from = normed.subarray(row * hiddenSize, (row + count) * hiddenSize);
      const to = logits.subarray(row * vocabSize, (row + count) * vocabSize);
      if (token) to.set(token.logits(from));
      else await this.#multiply(from, to, count);
    }
  }

  async #multiply(normed: Float32Array, logits: Float32Array, rows: number): Promise<void> {
    const { hiddenSize, vocabSize } = this.#parts.config;
    this.#program ??= await Program.compile(this.#graph().encode(), this.#threads);
    await this.#program.run(
      { normed: floats(normed, 1, rows, hiddenSize) },
      { logits: floats(logits, 1, rows, vocabSize) },
    );
  }

  #graph(): Graph {
    const graph = new Graph();
    graph.op("Identity", [head(graph, this.#parts, graph.input("normed", 3))], {}, "logits");
    graph.output("logits");
    return graph;
  }

  async release(): Promise<void> {
    await this.#program?.release();
    this.#program = null;
  }
}
