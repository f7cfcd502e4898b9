import type { ModelSource } from "../weights/model-source.ts";
import { massBand } from "../../state/attention-mass.ts";
import type { KeyCopies } from "../state/key-copies.ts";
import { CpuLayerView, type Passage } from "../state/passage.ts";
import { AttendedChunk, LayerAttention } from "./layer-attention.ts";
import type { LogitHead } from "./logit-head.ts";
import { floats, integers, ProgramCache, Scratch } from "./runtime.ts";
import { stagesGraph } from "./stages.ts";

/** Computes a chunk layer by layer, so that hooks can look between two layers and change the plan or the attention's output. */
export class SteppedDecoder {
  readonly #source: ModelSource;
  readonly #head: LogitHead;
  readonly #stages: ProgramCache;
  readonly #attention: LayerAttention;
  readonly #streams = [new Scratch(), new Scratch()] as const;
  readonly #projected = new Scratch();
  readonly #normed = new Scratch();
  readonly #attended = new Scratch();

  constructor(source: ModelSource, threads: number, copies: KeyCopies, head: LogitHead) {
    this.#source = source;
    this.#head = head;
    this.#stages = new ProgramCache(1, threads);
    this.#attention = new LayerAttention(source.config, threads, copies);
  }

  async run({ state, request, first, count, hidden, logits, logitRows }: Passage): Promise<void> {
    const { config } = this.#source;
    const { layerCount, hiddenSize, queryHeads, keyHeads, headSize } = config;
    const { hooks, rawKeys = false, stopAfter = layerCount } = request;
    const width = queryHeads * headSize;
    const projected = this.#projected.take(count * (queryHeads + 2 * keyHeads) * headSize);
    const attended = this.#attended.take(count * width);
    let [stream, next] = this.#streams.map((scratch) => scratch.take(count * hiddenSize)) as [
      Float32Array,
      Float32Array,
    ];
    const chunk = new AttendedChunk(state, first, count, projected, attended);
    await this.#stage(0, count, hidden, attended, stream, projected);
    for (let layer = 0; layer < layerCount; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      const last = layer === layerCount - 1;
      const view = hook && new CpuLayerView(config, state, layer, first, count, projected);
      hook?.hidden?.(layer, stream);
      const given = request.plan(layer);
      // The last layer that is computed writes its keys and values; attention is computed where logits, hooks or masses need it.
      const stops = layer === stopAfter;
      const attend = massBand(given) > 0 || (!stops && (!last || logitRows > 0 || hook !== undefined));
      const plan = await this.#attention.run(chunk, layer, { given, attend, rawKeys, hook, view });
      if (stops) return;
      if (plan.memory)
        state.passMemory(layer, plan.memory, { first, count, projected, attended: attend ? attended : null });
      if (view && hook.attended) {
        const changed = hook.attended(view, attended);
        if (changed !== attended) attended.set(changed);
      }
      if (last) break;
      await this.#stage(layer + 1, count, stream, attended, next, projected);
      [stream, next] = [next, stream];
    }
    if (logitRows === 0) return;
    const of = (data: Float32Array, size: number) => data.subarray((count - logitRows) * size, count * size);
    const normed = this.#normed.take(logitRows * hiddenSize);
    const rest = next.subarray(0, logitRows * hiddenSize);
    await this.#stage(layerCount, logitRows, of(stream, hiddenSize), of(attended, width), rest, normed);
    await this.#head.run(normed, logits, logitRows);
  }

  async #stage(
    index: number,
    rows: number,
    hidden: Float32Array,
    attended: Float32Array,
    stream: Float32Array,
    projected: Float32Array,
  ): Promise<void> {
    const { hiddenSize, queryHeads, headSize } = this.#source.config;
    const program = await this.#stages.get("stages", () => stagesGraph(this.#source));
    await program.run(
      {
        hidden: floats(hidden, 1, rows, hiddenSize),
        attended: floats(attended, 1, rows, queryHeads * headSize),
        stage: integers([index]),
      },
      { stream: floats(stream, 1, rows, hiddenSize), projected: floats(projected, 1, rows, projected.length / rows) },
    );
  }

  async release(): Promise<void> {
    await Promise.all([this.#stages.release(), this.#attention.release()]);
  }
}
