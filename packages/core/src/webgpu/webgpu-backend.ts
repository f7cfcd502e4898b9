import type { Backend, Cache, DeviceMemory, ForwardRequest, Precision, SampledToken } from "../backend.ts";
import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import { checkIds } from "../forward-checks.ts";
import { drawToken, type Draw } from "../sampling.ts";
import { SlotMap, type CacheLayout } from "../slots.ts";
import type { Weights } from "../weights.ts";
import { alignModel } from "./aligned.ts";
import { headNorms, uploadWeights } from "./decoder-weights.ts";
import { ChunkPass, type Decoder } from "./chunk-pass.ts";
import { DecoderStages } from "./decoder.ts";
import { GpuCache } from "./gpu-cache.ts";
import { openGpu, type Gpu, type GpuOptions } from "./gpu.ts";
import type { GpuSlice } from "./kernel.ts";
import { NO_TOKEN } from "./kernels/argmax.ts";
import { attentionShape } from "./kernels/attention-shape.ts";
import { AttentionKernels } from "./kernels/attention.ts";
import { watchedHooks } from "./watched-hooks.ts";
import { Workspace } from "./workspace.ts";

export interface WebGpuOptions extends GpuOptions {
  /** `fast` keeps keys and values in 16 bits. */
  readonly precision?: Precision;
  /** A device that is open already; it stays open when the backend is disposed of. */
  readonly device?: Gpu;
}

/**
 * The model on a GPU: weights packed as they are stored, one compute pass a chunk or token. The checkpoint may be closed
 * then, for nothing more is read of it.
 * @throws LongctxError "device" when there is no adapter, or not the one asked for
 */
export async function createWebGpu(
  config: ModelConfig,
  weights: Weights,
  options: WebGpuOptions = {},
): Promise<WebGpuBackend> {
  const gpu = options.device ?? (await openGpu(options));
  let backend: WebGpuBackend | undefined;
  try {
    backend = new WebGpuBackend(gpu, config, weights, options);
    await backend.prepare();
    return backend;
  } catch (error) {
    await backend?.dispose(); // a device that others use stays open, without these weights
    if (!options.device) gpu.destroy();
    throw error;
  }
}

export class WebGpuBackend implements Backend {
  readonly device = "webgpu";
  readonly precision: Precision;
  readonly config: ModelConfig;
  readonly preferredChunk: number;
  readonly gpu: Gpu;
  readonly #owned: boolean;
  readonly #decoder: Decoder;
  readonly #weights: readonly GpuSlice[];
  /** Rejects when the device could not hold the weights. */
  readonly #uploaded: Promise<void>;
  #disposed = false;
  #inHook = false;
  /** Calls share the workspace, so they wait for one another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(gpu: Gpu, config: ModelConfig, weights: Weights, { precision = "exact", device }: WebGpuOptions) {
    const { capabilities } = gpu;
    this.gpu = gpu;
    this.config = config;
    this.precision = precision;
    this.preferredChunk = capabilities.software ? 128 : 512;
    this.#owned = device === undefined;
    const model = alignModel(config, weights);
    const shape = attentionShape(model.config, precision === "fast" ? "f16" : "f32");
    const { result, told } = gpu.scoped(() => gpu.collect(() => uploadWeights(gpu, model)));
    const { result: uploaded, slices } = result;
    this.#weights = slices;
    this.#uploaded = told;
    const workspace = new Workspace(gpu);
    this.#decoder = {
      gpu,
      config,
      model,
      weights: uploaded,
      headGains: config.queryKeyNorm
        ? Array.from({ length: config.layerCount }, (_, layer) => headNorms(weights, layer, config.headSize))
        : null,
      workspace,
      stages: new DecoderStages(model, uploaded, capabilities, workspace),
      attention: new AttentionKernels(shape, capabilities, config.queryKeyNorm ? model.headEpsilon : null),
    };
  }

  /** Waits for the weights, and compiles side by side what single tokens and whole chunks need. */
  async prepare(): Promise<void> {
    const { stages, attention, workspace, config } = this.#decoder;
    const ids = workspace.put(new Uint32Array(1));
    const dispatches = [1, this.preferredChunk].flatMap((count) => [
      ...stages.embed(ids, count),
      ...Array.from({ length: config.layerCount }, (_, layer) => [
        ...stages.project(layer, count),
        ...stages.feedForward(layer, count, { first: 0, count }),
      ]).flat(),
      ...stages.head(count, { first: 0, count: 1 }),
    ]);
    await this.gpu.prepare([...attention.kernels, ...dispatches.map(({ kernel }) => kernel)]);
    await this.#uploaded;
    await workspace.settled();
    await this.gpu.run([]);
  }

  createCache(layout: CacheLayout): Cache {
    return new GpuCache(this.gpu, this.#decoder.attention.shape, this.config.layerCount, new SlotMap(layout));
  }

  restoreCache(layout: CacheLayout, bytes: Uint8Array): Cache {
    return GpuCache.restore(this.gpu, this.#decoder.attention.shape, this.config, layout, bytes);
  }

  forward(request: ForwardRequest): Promise<Float32Array> {
    return this.#pass(request, (pass) => pass.run());
  }

  async sample(request: ForwardRequest, draw: Draw): Promise<SampledToken> {
    const id = await this.#pass(request, (pass) => pass.sample(draw));
    const logits = async () => {
      const [bytes] = await this.gpu.runAndRead([], [this.#own(request.cache).lastLogits(this.config.vocabSize)]);
      return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    };
    return { id: id === NO_TOKEN ? drawToken(await logits(), draw) : id, logits };
  }

  #pass<Result>(request: ForwardRequest, act: (pass: ChunkPass) => Promise<Result>): Promise<Result> {
    if (this.#disposed)
      return Promise.reject(new LongctxError("argument", "This model was disposed of; load it again."));
    // A hook that reads after it has waited for something else looks like any other caller, and is not noticed.
    if (this.#inHook)
      return Promise.reject(
        new LongctxError(
          "argument",
          "A hook asked its own model to read, which would wait for the hook; read before, or with another model.",
        ),
      );
    const result = this.#queue.then(() => this.#read(request, act));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  #own(cache: Cache): GpuCache {
    if (!(cache instanceof GpuCache) || cache.gpu !== this.gpu)
      throw new LongctxError(
        "argument",
        "This cache belongs to another device; make it with this backend's createCache.",
      );
    return cache;
  }

  async #read<Result>(request: ForwardRequest, act: (pass: ChunkPass) => Promise<Result>): Promise<Result> {
    const { ids } = request;
    const cache = this.#own(request.cache);
    this.gpu.check();
    cache.check();
    await cache.settled();
    checkIds(ids, this.config.vocabSize);
    cache.slots.fork().append(ids.length); // refuses what does not fit before anything is written
    const hooks = request.hooks && watchedHooks(request.hooks, (hook) => this.#insideHook(hook));
    const pass = new ChunkPass(this.#decoder, cache, { ...request, hooks });
    try {
      return await act(pass);
    } catch (error) {
      pass.abandon();
      if (error instanceof LongctxError && error.code === "device") {
        if (pass.started) cache.break(error);
        this.#recover();
      }
      throw error;
    }
  }

  #insideHook<Result>(hook: () => Result): Result {
    this.#inHook = true;
    try {
      return hook();
    } finally {
      this.#inHook = false;
    }
  }

  /** Buffers that all chunks share may be ones that the device could not make: the next chunk takes new ones. */
  #recover(): void {
    this.#decoder.workspace.release();
    this.gpu.recover();
  }

  /** That of the whole device, where several models share one. */
  memory(): DeviceMemory {
    return this.gpu.ledger.memory;
  }

  /** Behind the calls that wait already; later ones are refused. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#queue;
    this.#decoder.workspace.release();
    if (this.#owned) this.gpu.destroy();
    else for (const slice of this.#weights) this.gpu.free(slice);
  }
}
