import { availableParallelism } from "node:os";
import type { Backend, ForwardRequest, Precision, SequenceState, StateOptions } from "../backend/backend.ts";
import type { ModelConfig } from "../model/config.ts";
import { LongctxError } from "../common/errors.ts";
import {
  ANY_ACTIVATION,
  ABSENT,
  checkComputes,
  DESCRIPTION,
  oneOf,
  optional,
  POSITIVE,
  RMS_NORM,
  type Computes,
} from "../backend/computes.ts";
import { checkRequest, foreignState } from "../backend/forward-checks.ts";
import type { RingLayout } from "../method/method.ts";
import type { Weights } from "../model/weights.ts";
import { ChunkAngles, prepareUniformChunk, TILE_ROWS, type PreparedChunk } from "./graph/chunk.ts";
import { MemoryKernels } from "./state/compressive-memory.ts";
import { keepChunk } from "./state/cold-reads.ts";
import { CpuState } from "./state/cpu-state.ts";
import { restoreState } from "./state/state-bytes.ts";
import { Embedding, type ModelSource } from "./weights/model-source.ts";
import { PerPlan, type Passage } from "./state/passage.ts";
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

/** What the graphs and kernels compute of a model. */
const COMPUTES: Computes = {
  ...DESCRIPTION,
  norm: RMS_NORM,
  feedForward: oneOf("gated"),
  experts: ABSENT,
  activation: ANY_ACTIVATION,
  position: oneOf("rope"),
  postNorms: ABSENT,
  embeddingScale: ABSENT,
  attentionScale: ABSENT,
  logitSoftCap: optional(POSITIVE),
  attentionSoftCap: ABSENT,
};

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
  checkComputes("cpu", COMPUTES, config, "webgpu or reference");
  return new CpuBackend({ config, weights, precision }, threads);
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
  /** Made for the first plan with a compressive memory. */
  #memories: MemoryKernels | undefined;
  readonly #memoryKernels = () => (this.#memories ??= new MemoryKernels(this.config));
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

  createState(layouts: RingLayout | readonly RingLayout[], options?: StateOptions): SequenceState {
    return CpuState.of(this, layouts, this.#memoryKernels, options);
  }

  restoreState(layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array, options?: StateOptions): SequenceState {
    return restoreState(CpuState.of(this, layouts, this.#memoryKernels, options), bytes);
  }

  forward(request: ForwardRequest): Promise<Float32Array> {
    const result = this.#queue.then(() => this.#forward(request));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #forward(request: ForwardRequest): Promise<Float32Array> {
    const { state, ids, logitRows } = request;
    if (!(state instanceof CpuState) || state.backend !== this) throw foreignState(state, this);
    const { vocabSize, hiddenSize } = this.config;
    if (state.layers.length === 0)
      throw new LongctxError("argument", "This state was disposed of; create another one.");
    checkRequest(request, this.config);
    const { rings } = state;
    if (ids.length > state.consecutive)
      throw new Error(
        `A chunk of ${ids.length} tokens goes round the end of a ring; whoever calls forward has to end it there.`,
      );
    const logits = this.#logits.take(logitRows * vocabSize);
    const hidden = this.#hidden.take(ids.length * hiddenSize);
    this.#copies.adopt(state, request.plan);
    this.#embedding.rows(ids, hidden);
    const first = rings.length;
    state.append(ids.length);
    await this.#pass({ state, request, first, count: ids.length, hidden, logits, logitRows });
    keepChunk(state.layers.slice(0, (request.stopAfter ?? Infinity) + 1), first, ids.length);
    const { logitSoftCap } = this.config;
    if (logitSoftCap !== undefined)
      for (let i = 0; i < logits.length; i++) logits[i] = logitSoftCap * Math.tanh(logits[i] / logitSoftCap);
    return logits;
  }

  async #pass(passage: Passage): Promise<void> {
    if (passage.count === 1) {
      const token = this.#tokenDecoder();
      if (token?.holds(passage.state)) return token.run(passage);
    }
    const uniform = passage.request.hooks ? null : this.#uniformPlans(passage);
    if (!uniform) return this.#stepped.run(passage);
    uniform.forEach(({ keyRotations }, layer) =>
      this.#copies.ensure(
        passage.state,
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

  /** The plan of each layer that is computed, as a chunk of uniform shape; null when some plan has no such shape. */
  #uniformPlans({ state, request, first, count }: Passage): PreparedChunk[] | null {
    const prepared = new PerPlan<PreparedChunk | null>();
    const angles = new ChunkAngles(first, count);
    const chunks: PreparedChunk[] = [];
    const last = request.stopAfter ?? this.config.layerCount - 1;
    for (let layer = 0; layer <= last; layer++) {
      const plan = request.plan(layer);
      const { slots, cold } = state.layers[layer];
      if (cold?.sees(plan, slots, first, count)) return null;
      const raw = request.rawKeys || cold !== null;
      const chunk = prepared.get(plan, slots, () => prepareUniformChunk(plan, slots, angles, raw));
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
