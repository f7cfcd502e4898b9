import { bindLayer } from "./bindings.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { Passage } from "./cpu-backend.ts";
import type { Parts } from "./layers.ts";
import type { LogitHead } from "./logit-head.ts";
import { ProgramCache } from "./program-cache.ts";
import { floats, integers, Scratch, type Feeds } from "./runtime.ts";
import { wholeGraph } from "./whole-graph.ts";

/** Each holds the weights, so few are kept: one method at a time is the usual case, comparing two the next. */
const KEPT_PROGRAMS = 2;

/** The whole model in one call. */
export class WholeDecoder {
  readonly #parts: Parts;
  readonly #programs: ProgramCache;
  readonly #head: LogitHead;
  readonly #normed = new Scratch();

  constructor(parts: Parts, threads: number, head: LogitHead) {
    this.#parts = parts;
    this.#programs = new ProgramCache(KEPT_PROGRAMS, threads);
    this.#head = head;
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
    const normed = this.#normed.take(rows * config.hiddenSize);
    const outputs: Feeds = { normed: floats(normed, 1, rows, config.hiddenSize) };
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
    await this.#head.run(normed, logits, logitRows);
  }

  release(): Promise<void> {
    return this.#programs.release();
  }
}
