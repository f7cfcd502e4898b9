import { availableParallelism } from "node:os";
import type { Backend, Cache, ForwardRequest, Precision } from "../backend.ts";
import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import type { AttentionPlan } from "../plan.ts";
import { SlotMap, type CacheLayout } from "../slots.ts";
import type { Weights } from "../weights.ts";
import { AttentionRunner } from "./attention-runner.ts";
import { prepareChunk, type PreparedChunk } from "./chunk.ts";
import { CpuCache } from "./cpu-cache.ts";
import { CpuLayerView } from "./cpu-layer-view.ts";
import { Embedding } from "./embedding.ts";
import { floats, integers, Program, Scratch } from "./runtime.ts";
import { stagesGraph } from "./stages.ts";

export interface CpuOptions {
  readonly precision?: Precision;
  /** Threads of the products; all cores unless given. */
  readonly threads?: number;
}

/** Logits are made for this many rows at once, so that a long text's do not need a second buffer. */
const LOGIT_ROWS = 64;

/** The decoder on onnxruntime: dense algebra in one graph of stages, attention in small graphs made for each plan. */
export async function createCpu(config: ModelConfig, weights: Weights, options: CpuOptions = {}): Promise<Backend> {
  const { precision = "exact", threads = availableParallelism() } = options;
  if (!Number.isInteger(threads) || threads < 1) throw new LongctxError("argument", `${threads} threads are impossible; give a whole number of at least 1.`);
  const embedding = new Embedding(weights.get("embedding", [config.vocabSize, config.hiddenSize]));
  const stages = await Program.compile(stagesGraph(config, weights, precision), threads);
  return new CpuBackend(config, precision, embedding, stages, threads);
}

class CpuBackend implements Backend {
  readonly device = "cpu";
  readonly precision: Precision;
  readonly config: ModelConfig;
  readonly preferredChunk = 512;
  readonly #embedding: Embedding;
  readonly #stages: Program;
  readonly #attention: AttentionRunner;
  readonly #stageIndex: readonly ReturnType<typeof integers>[];
  readonly #streams = [new Scratch(), new Scratch()] as const;
  readonly #projected = new Scratch();
  readonly #attended = new Scratch();
  readonly #logits = new Scratch();
  /** Calls share the scratch buffers, so they wait for one another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: ModelConfig, precision: Precision, embedding: Embedding, stages: Program, threads: number) {
    this.config = config;
    this.precision = precision;
    this.#embedding = embedding;
    this.#stages = stages;
    this.#attention = new AttentionRunner(config, threads);
    this.#stageIndex = Array.from({ length: config.layerCount + 1 }, (_, i) => integers([i]));
  }

  createCache(layout: CacheLayout): Cache {
    return new CpuCache(this.config, new SlotMap(layout));
  }

  restoreCache(layout: CacheLayout, bytes: Uint8Array): Cache {
    return CpuCache.restore(this.config, layout, bytes);
  }

  forward(request: ForwardRequest): Promise<Float32Array> {
    const result = this.#queue.then(() => this.#forward(request));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #forward(request: ForwardRequest): Promise<Float32Array> {
    const { cache, ids, logitRows } = request;
    if (!(cache instanceof CpuCache)) throw new LongctxError("argument", "This cache belongs to another device; make it with this backend's createCache.");
    const logits = this.#logits.take(logitRows * this.config.vocabSize);
    // Keys are written to consecutive slots, so a chunk that goes round the end of the ring is computed in two parts.
    for (let done = 0; done < ids.length; ) {
      const run = this.#upcoming(cache.slots, ids.length - done);
      const after = ids.length - done - run;
      const rows = Math.min(run, Math.max(0, logitRows - after));
      const offset = logitRows - after - rows;
      await this.#part(cache, request, ids.slice(done, done + run), logits.subarray(offset * this.config.vocabSize, (offset + rows) * this.config.vocabSize), rows);
      done += run;
    }
    return logits;
  }

  /** How many of the next `count` tokens go to consecutive slots. */
  #upcoming(slots: SlotMap, count: number): number {
    const next = slots.slotOf(slots.length);
    return Math.min(count, slots.layout.capacity - next);
  }

  async #part(cache: CpuCache, request: ForwardRequest, ids: readonly number[], logits: Float32Array, logitRows: number): Promise<void> {
    const { layerCount, hiddenSize, queryHeads, keyHeads, headSize } = this.config;
    const { hooks, rawKeys = false } = request;
    const count = ids.length;
    const first = cache.slots.length;
    cache.slots.append(count);
    const prepared = new Map<AttentionPlan, PreparedChunk>();
    const prepare = (plan: AttentionPlan, attend: boolean): PreparedChunk => {
      if (!attend) return prepareChunk(plan, cache.slots, first, count, { rawKeys, attend });
      const known = prepared.get(plan) ?? prepareChunk(plan, cache.slots, first, count, { rawKeys, attend });
      prepared.set(plan, known);
      return known;
    };

    let [stream, next] = this.#streams.map((scratch) => scratch.take(count * hiddenSize)) as [Float32Array, Float32Array];
    const projected = this.#projected.take(count * (queryHeads + 2 * keyHeads) * headSize);
    const attended = this.#attended.take(count * queryHeads * headSize);
    this.#embedding.rows(ids, stream);
    await this.#stage(0, count, stream, attended, next, projected);
    [stream, next] = [next, stream];
    for (let layer = 0; layer < layerCount; layer++) {
      const hook = hooks?.layers(layer) ? hooks : undefined;
      const last = layer === layerCount - 1;
      const view = hook && new CpuLayerView(this.config, cache, layer, first, count, projected);
      hook?.hidden?.(layer, stream);
      const given = request.plan(layer);
      const plan = (view && (await hook.queries?.(view, given))) ?? given;
      // Nobody reads the last layer's output where no logits are asked for; its keys and values are kept all the same.
      await this.#attention.run(cache, layer, prepare(plan, !last || logitRows > 0 || hook !== undefined), count, first, projected, attended);
      if (view && hook.attended) {
        const changed = hook.attended(view, attended);
        if (changed !== attended) attended.set(changed);
      }
      if (last) break;
      await this.#stage(layer + 1, count, stream, attended, next, projected);
      [stream, next] = [next, stream];
    }
    const width = queryHeads * headSize;
    for (let row = 0; row < logitRows; row += LOGIT_ROWS) {
      const rows = Math.min(LOGIT_ROWS, logitRows - row);
      const at = count - logitRows + row;
      const into = logits.subarray(row * this.config.vocabSize, (row + rows) * this.config.vocabSize);
      await this.#stage(layerCount, rows, stream.subarray(at * hiddenSize, (at + rows) * hiddenSize), attended.subarray(at * width, (at + rows) * width), next.subarray(0, rows * hiddenSize), into);
    }
  }

  async #stage(index: number, rows: number, hidden: Float32Array, attended: Float32Array, stream: Float32Array, projected: Float32Array): Promise<void> {
    const { hiddenSize, queryHeads, headSize } = this.config;
    await this.#stages.run(
      { hidden: floats(hidden, 1, rows, hiddenSize), attended: floats(attended, 1, rows, queryHeads * headSize), stage: this.#stageIndex[index]! },
      { stream: floats(stream, 1, rows, hiddenSize), projected: floats(projected, 1, rows, projected.length / rows) },
    );
  }

  async dispose(): Promise<void> {
    await this.#queue;
    await Promise.all([this.#stages.release(), this.#attention.release()]);
  }
}
