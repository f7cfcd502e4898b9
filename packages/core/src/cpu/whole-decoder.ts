import { bindLayer } from "./bindings.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { Passage } from "./cpu-backend.ts";
import type { Parts } from "./layers.ts";
import { ProgramCache } from "./program-cache.ts";
import { floats, integers, type Feeds } from "./runtime.ts";
import { wholeGraph } from "./whole-graph.ts";

/** Each holds the weights, so few are kept: one method at a time is the usual case, comparing two the next. */
const KEPT_PROGRAMS = 2;

/** The whole model in one call. */
export class WholeDecoder {
  readonly #parts: Parts;
  readonly #programs: ProgramCache;
  /** Logits that nobody asked for. */
  readonly #spare: Float32Array;

  constructor(parts: Parts, threads: number) {
    this.#parts = parts;
    this.#programs = new ProgramCache(KEPT_PROGRAMS, threads);
    this.#spare = new Float32Array(parts.config.vocabSize);
  }

  async run(
    { cache, first, count, hidden, logits, logitRows }: Passage,
    chunks: readonly PreparedChunk[],
  ): Promise<void> {
    const { config } = this.#parts;
    const plans = [...new Set(chunks)];
    const planOf = chunks.map((chunk) => plans.indexOf(chunk));
    // Without a row the graph would have to be another one; a single row costs little beside a chunk.
    const rows = Math.max(logitRows, 1);
    const feeds: Feeds = {
      hidden: floats(hidden, 1, count, config.hiddenSize),
      positions: integers(
        Array.from({ length: count }, (_, i) => i),
        1,
        count,
      ),
      rows: integers(
        Array.from({ length: rows }, (_, i) => count - rows + i),
        rows,
      ),
    };
    plans.forEach((chunk, plan) => Object.assign(feeds, chunk.feeds(plan)));
    const outputs: Feeds = { logits: floats(logitRows > 0 ? logits : this.#spare, 1, rows, config.vocabSize) };
    chunks.forEach((chunk, layer) => bindLayer(config, cache, layer, layer, chunk, first, count, feeds, outputs));
    const key = JSON.stringify([plans.map((chunk) => chunk.key), plans.length > 1 ? planOf : 0]);
    const program = await this.#programs.get(key, () =>
      wholeGraph(
        this.#parts,
        plans.map((chunk) => chunk.shape),
        planOf,
      ),
    );
    await program.run(feeds, outputs);
  }

  release(): Promise<void> {
    return this.#programs.release();
  }
}
