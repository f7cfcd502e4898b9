import type { ModelSource } from "../weights/model-source.ts";
import { needsRawKeys } from "../../method/plan.ts";
import { attentionGraph } from "./attention-graph.ts";
import { bindLayer } from "./bindings.ts";
import { ChunkAngles, prepareChunk, type PreparedChunk } from "./chunk.ts";
import { choose } from "../state/choose.ts";
import { readTokens } from "../state/cold-reads.ts";
import type { CpuState } from "../state/cpu-state.ts";
import { CpuLayerView, PerPlan, type Passage } from "../state/passage.ts";
import type { KeyCopies } from "../state/key-copies.ts";
import type { LogitHead } from "./logit-head.ts";
import { floats, integers, ProgramCache, Scratch, type Feeds } from "./runtime.ts";
import { stagesGraph } from "./stages.ts";

/** Attention graphs kept: they hold no weights, and differ by the shape of a plan, not by lengths. */
const KEPT_ATTENTIONS = 64;

/** Computes a chunk layer by layer, so that hooks can look between two layers and change the plan or the attention's output. */
export class SteppedDecoder {
  readonly #source: ModelSource;
  readonly #copies: KeyCopies;
  readonly #head: LogitHead;
  readonly #stages: ProgramCache;
  readonly #attentions: ProgramCache;
  readonly #streams = [new Scratch(), new Scratch()] as const;
  readonly #projected = new Scratch();
  readonly #normed = new Scratch();
  readonly #attended = new Scratch();

  constructor(source: ModelSource, threads: number, copies: KeyCopies, head: LogitHead) {
    this.#source = source;
    this.#copies = copies;
    this.#head = head;
    this.#stages = new ProgramCache(1, threads);
    this.#attentions = new ProgramCache(KEPT_ATTENTIONS, threads);
  }

  async run({ state, request, first, count, hidden, logits, logitRows }: Passage): Promise<void> {
    const { config } = this.#source;
    const { layerCount, hiddenSize, queryHeads, keyHeads, headSize } = config;
    const { hooks, rawKeys = false } = request;
    const prepared = new PerPlan<PreparedChunk>();
    const angles = new ChunkAngles(first, count);
    const width = queryHeads * headSize;
    const projected = this.#projected.take(count * (queryHeads + 2 * keyHeads) * headSize);
    const attended = this.#attended.take(count * width);
    let [stream, next] = this.#streams.map((scratch) => scratch.take(count * hiddenSize)) as [
      Float32Array,
      Float32Array,
    ];
    await this.#stage(0, count, hidden, attended, stream, projected);
    for (let layer = 0; layer < layerCount; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      const last = layer === layerCount - 1;
      const view = hook && new CpuLayerView(config, state, layer, first, count, projected);
      hook?.hidden?.(layer, stream);
      // Where no logits are asked for, the last layer writes its keys and values but computes no attention.
      const attend = !last || logitRows > 0 || hook !== undefined;
      const given = request.plan(layer);
      const chosen = attend ? choose(given, state, layer, this.#copies, { first, count, projected }, "lists") : given;
      const plan = (view && (await hook.queries?.(view, chosen))) ?? chosen;
      const { slots, load } = readTokens(state, layer, attend ? plan : null, first, count);
      const raw = rawKeys || needsRawKeys(given) || state.layers[layer].cold !== null;
      const make = () => prepareChunk(plan, slots, angles, { rawKeys: raw, attend });
      // Only plans that other layers have too are kept with their masks.
      const chunk = attend && plan === given ? prepared.get(plan, slots, make) : make();
      this.#copies.ensure(
        state,
        layer,
        chunk.keyRotations.map(([, by]) => by),
        first,
      );
      load();
      await this.#attend(state, layer, chunk, first, count, projected, attended);
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

  async #attend(
    state: CpuState,
    layer: number,
    chunk: PreparedChunk,
    first: number,
    count: number,
    projected: Float32Array,
    attended: Float32Array,
  ): Promise<void> {
    const { config } = this.#source;
    const feeds: Feeds = {
      ...chunk.feeds(0),
      projected: floats(projected, 1, count, projected.length / count),
      positions: integers(
        Array.from({ length: count }, (_, i) => i),
        1,
        count,
      ),
    };
    const outputs: Feeds =
      chunk.tiles.length > 0 ? { attended: floats(attended, count, config.queryHeads, config.headSize) } : {};
    bindLayer(config, state, layer, 0, chunk, first, count, feeds, outputs);
    const program = await this.#attentions.get(chunk.key, () => attentionGraph(config, chunk.shape));
    await program.run(feeds, outputs);
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
    await Promise.all([this.#stages.release(), this.#attentions.release()]);
  }
}
