import type { AttentionPlan, Segment } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { gatesOf, mixFound } from "../choice/found.ts";
import { ListAttention, type Found, type ReadLayer } from "../choice/list-attention.ts";
import type { AskingChunk } from "../choice/asking.ts";
import type { RowChooser } from "../choice/choose.ts";
import { KernelThreads } from "../wasm/kernel-threads.ts";
import { NearestRows } from "./nearest-rows.ts";

/** Threads wait for work only shortly, since onnxruntime's threads want the cores between two jobs. */
const PATIENCE = 3000;

/** What a chunk's queries and heads choose for themselves, and their attention to it; made when a plan first has such choices. */
export class ChunkChoices {
  readonly #config: ModelConfig;
  readonly #threadCount: number;
  #made: { readonly threads: KernelThreads; readonly nearest: NearestRows; readonly lists: ListAttention } | null =
    null;

  constructor(config: ModelConfig, threads: number) {
    this.#config = config;
    this.#threadCount = threads;
  }

  #parts() {
    if (this.#made) return this.#made;
    const threads = new KernelThreads(this.#threadCount, PATIENCE);
    return (this.#made = {
      threads,
      nearest: new NearestRows(threads),
      lists: new ListAttention(this.#config, threads),
    });
  }

  get chooser(): RowChooser {
    return {
      nearest: (choice, state, layer, rows) => this.#parts().nearest.nearest(choice, state, layer, rows),
    };
  }

  /** Attends to lists of single queries and heads under the plan's softmax; to nothing where there are none. */
  attend(
    found: readonly Segment[],
    { temperature }: AttentionPlan,
    at: ReadLayer,
    chunk: AskingChunk,
  ): readonly Found[] {
    return found.length === 0 ? [] : this.#parts().lists.attend(found, at, chunk, { temperature });
  }

  /** Mixes the plan's second softmax into `attended` [T, H, D], in place. */
  mixGated({ gated, temperature }: AttentionPlan, at: ReadLayer, chunk: AskingChunk, attended: Float32Array): void {
    if (!gated) return;
    const { queryHeads, keyHeads, headSize } = this.#config;
    const group = queryHeads / keyHeads;
    const scaling = { temperature, cosines: gated.scales?.[at.layer] };
    const found = this.#parts().lists.attend(gated.segments, at, chunk, scaling);
    const gates = gatesOf(gated.gates[at.layer]);
    for (let row = 0; row < chunk.count; row++)
      for (let head = 0; head < queryHeads; head++) {
        const to = (row * queryHeads + head) * headSize;
        const from = (row * group + (head % group)) * headSize;
        const { output } = found[Math.floor(head / group)];
        mixFound(attended.subarray(to, to + headSize), output.subarray(from, from + headSize), gates[head]);
      }
  }

  async release(): Promise<void> {
    await this.#made?.nearest.release();
    await this.#made?.threads.release();
  }
}
