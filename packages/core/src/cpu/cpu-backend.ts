import { availableParallelism } from "node:os";
import type { Backend, Cache, ForwardRequest, Precision } from "../backend/backend.ts";
import type { ModelConfig } from "../model/config.ts";
import { LongctxError } from "../common/errors.ts";
import { checkIds } from "../backend/forward-checks.ts";
import type { AttentionPlan } from "../method/plan.ts";
import { SlotMap, type CacheLayout } from "../state/slots.ts";
import type { Weights } from "../model/weights.ts";
import { prepareUniformChunk, TILE_ROWS, type PreparedChunk } from "./graph/chunk.ts";
import { CpuCache } from "./state/cpu-cache.ts";
import { Embedding, type ModelSource } from "./weights/model-source.ts";
import type { Passage } from "./state/passage.ts";
import { KeyCopies } from "./state/key-copies.ts";
import { LogitHead } from "./graph/logit-head.ts";
import { Scratch } from "./graph/runtime.ts";
import { SteppedDecoder } from "./graph/stepped-decoder.ts";
import { TokenDecoder } from "./token/token-decoder.ts";
import { WholeDecoder } from "./graph/whole-decoder.ts";

export interface CpuOptions {
  readonly precision?: Precision;
  /** Threads that compute; as many as the machine has cores unless given. */
  readonly threads?: number;
}

/**
 * The device cpu. Chunks run on onnxruntime: one graph of the whole model where every layer's lanes are the same for every
 * chunk, layer by layer with hooks and under other plans. Single tokens run in WebAssembly kernels, where the weights fit
 * their memory. `weights` stay open, since a graph reads them when a chunk first needs it.
 * @throws LongctxError "argument" for impossible threads, "config" for a model with parts that this device does not compute
 */
export function createCpu(config: ModelConfig, weights: Weights, options: CpuOptions = {}): Backend {
  const { precision = "exact", threads = availableParallelism() } = options;
  if (!Number.isInteger(threads) || threads < 1)
    throw new LongctxError("argument", `${threads} threads are impossible; give a whole number of at least 1.`);
  const lacking = beyond(config);
  if (lacking)
    throw new LongctxError(
      "config",
      `The model has ${lacking}, which the device cpu does not compute; use the device webgpu or reference.`,
    );
  return new CpuBackend({ config, weights, precision }, threads);
}

/** The part of the model that no graph and no kernel here computes; null where there is none. */
function beyond({ experts, attentionSoftCap, postNorms, embeddingScale, attentionScale }: ModelConfig): string | null {
  if (experts) return `mixtures of ${experts.count} experts`;
  if (attentionSoftCap !== undefined) return `attention scores capped at ${attentionSoftCap}`;
  if (postNorms) return "norms behind attention and feed-forward networks";
  if (embeddingScale !== undefined) return `embeddings multiplied by ${embeddingScale}`;
  return attentionScale === undefined ? null : `attention scores multiplied by ${attentionScale}`;
}

class CpuBackend implements Backend {
  readonly device = "cpu";
  readonly precision: Precision;
  readonly config: ModelConfig;
  readonly preferredChunk = TILE_ROWS;
  readonly #embedding: Embedding;
  readonly #copies: KeyCopies;
  readonly #head: LogitHead;
  readonly #whole: WholeDecoder;
  readonly #stepped: SteppedDecoder;
  readonly #source: ModelSource;
  readonly #threads: number;
  /** Made when the first single token is read; null when the weights do not fit its memory. */
  #token: TokenDecoder | null | undefined;
  readonly #hidden = new Scratch();
  readonly #logits = new Scratch();
  /** Calls share the scratch buffers, so they wait for one another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(source: ModelSource, threads: number) {
    this.#source = source;
    this.#threads = threads;
    this.config = source.config;
    this.precision = source.precision;
    this.#embedding = new Embedding(
      source.weights.get("embedding", [source.config.vocabSize, source.config.hiddenSize]),
    );
    this.#copies = new KeyCopies(source.config);
    this.#head = new LogitHead(source, threads, () => this.#tokenDecoder());
    this.#whole = new WholeDecoder(source, threads, this.#head);
    this.#stepped = new SteppedDecoder(source, threads, this.#copies, this.#head);
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
    if (!(cache instanceof CpuCache))
      throw new LongctxError(
        "argument",
        "This cache belongs to another device; make it with this backend's createCache.",
      );
    const { vocabSize, hiddenSize } = this.config;
    if (cache.layers.length === 0)
      throw new LongctxError("argument", "This cache was disposed of; create another one.");
    checkIds(ids, vocabSize);
    const runs = cache.slots.fork().append(ids.length); // refuses what does not fit before anything is written
    if (runs.length > 1)
      throw new Error(
        `A chunk of ${ids.length} tokens goes round the end of the ring; whoever calls forward has to end it there.`,
      );
    const logits = this.#logits.take(logitRows * vocabSize);
    const hidden = this.#hidden.take(ids.length * hiddenSize);
    this.#copies.adopt(cache, request.plan);
    this.#embedding.rows(ids, hidden);
    const first = cache.slots.length;
    cache.slots.append(ids.length);
    await this.#pass({ cache, request, first, count: ids.length, hidden, logits, logitRows });
    const { logitSoftCap } = this.config;
    if (logitSoftCap !== undefined)
      for (let i = 0; i < logits.length; i++) logits[i] = logitSoftCap * Math.tanh(logits[i] / logitSoftCap);
    return logits;
  }

  async #pass(passage: Passage): Promise<void> {
    if (passage.count === 1) {
      const token = this.#tokenDecoder();
      if (token?.holds(passage.cache)) return token.run(passage);
    }
    const uniform = passage.request.hooks ? null : this.#uniformPlans(passage);
    if (!uniform) return this.#stepped.run(passage);
    uniform.forEach(({ keyRotations }, layer) =>
      this.#copies.ensure(
        passage.cache,
        layer,
        keyRotations.map(([, by]) => by),
        passage.first,
      ),
    );
    return this.#whole.run(passage, uniform);
  }

  #tokenDecoder(): TokenDecoder | null {
    if (this.#token === undefined)
      this.#token = TokenDecoder.fits(this.#source)
        ? new TokenDecoder(this.#source, this.#threads, this.#copies)
        : null;
    return this.#token;
  }

  /** Every layer's plan as a chunk of uniform shape; null when some plan has no such shape. */
  #uniformPlans({ cache, request, first, count }: Passage): PreparedChunk[] | null {
    const prepared = new Map<AttentionPlan, PreparedChunk | null>();
    const chunks: PreparedChunk[] = [];
    for (let layer = 0; layer < this.config.layerCount; layer++) {
      const plan = request.plan(layer);
      if (!prepared.has(plan))
        prepared.set(plan, prepareUniformChunk(plan, cache.slots, first, count, request.rawKeys ?? false));
      const chunk = prepared.get(plan);
      if (!chunk) return null;
      chunks.push(chunk);
    }
    return chunks;
  }

  async dispose(): Promise<void> {
    await this.#queue;
    for (const part of [this.#whole, this.#stepped, this.#head, this.#token]) await part?.release();
  }
}
