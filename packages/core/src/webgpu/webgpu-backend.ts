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
import { NO_TOKEN } from "./kernels/argmax.ts";
import { attentionShape } from "./kernels/attention-shape.ts";
import { AttentionKernels } from "./kernels/attention.ts";
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
  try {
    const backend = new WebGpuBackend(gpu, config, weights, options);
    await backend.prepare();
    return backend;
  } catch (error) {
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
    const uploaded = uploadWeights(gpu, model);
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
    checkIds(ids, this.config.vocabSize);
    cache.slots.fork().append(ids.length); // refuses what does not fit before anything is written
    try {
      return await act(new ChunkPass(this.#decoder, cache, request));
    } catch (error) {
      if (error instanceof LongctxError && error.code === "device") cache.break(error);
      throw error;
    }
  }

  /** That of the whole device, where several models share one. */
  memory(): DeviceMemory {
    return this.gpu.ledger.memory;
  }

  async dispose(): Promise<void> {
    await this.#queue;
    this.#decoder.workspace.release();
    if (this.#owned) return this.gpu.destroy();
    const { embedding, layers, finalNorm, head } = this.#decoder.weights;
    const slices = [finalNorm, ...layers.flatMap((layer) => Object.values(layer).flat())].filter(
      (value) => typeof value === "object" && value !== null,
    );
    for (const value of [...slices, ...embedding, ...head]) {
      if (!("codes" in value)) this.gpu.free(value);
      else for (const slice of [value.codes, value.scales]) if (slice) this.gpu.free(slice);
    }
  }
}
