import type {
  Backend,
  DeviceMemory,
  ForwardRequest,
  LayerHooks,
  Precision,
  SampledToken,
  SequenceState,
} from "../../backend/backend.ts";
import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import { eventLoopTurn } from "../../common/event-loop.ts";
import { checkRequest, foreignState } from "../../backend/forward-checks.ts";
import type { RingLayout } from "../../method/method.ts";
import { drawToken, type Draw } from "../../text/sampling.ts";
import { Rings } from "../../state/rings.ts";
import { ChunkPass } from "./chunk-pass.ts";
import type { Decoder } from "./decoder.ts";
import { GpuState, type StateOwner } from "../state/gpu-state.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Dispatch, GpuSlice, Kernel } from "../device/kernel.ts";
import { argmaxKernels, NO_TOKEN } from "../sampling/argmax.ts";
import { sampleKernels } from "../sampling/sample.ts";

interface BackendOptions {
  readonly precision: Precision;
  /** Freed with the backend. */
  readonly weights: readonly GpuSlice[];
  /** Destroy the device with it too. */
  readonly ownsDevice: boolean;
}

/** The decoder of `createWebGpu`, ready to read. */
export class WebGpuBackend implements Backend {
  readonly device = "webgpu";
  readonly precision: Precision;
  readonly config: ModelConfig;
  readonly preferredChunk: number;
  readonly gpu: Gpu;
  readonly #ownsDevice: boolean;
  readonly #decoder: Decoder;
  readonly #weights: readonly GpuSlice[];
  #disposed = false;
  #inHook = false;
  /** Calls share the workspace, so they wait for one another. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(decoder: Decoder, { precision, weights, ownsDevice }: BackendOptions) {
    this.gpu = decoder.gpu;
    this.config = decoder.config;
    this.precision = precision;
    this.preferredChunk = this.gpu.capabilities.software ? 128 : 512;
    this.#ownsDevice = ownsDevice;
    this.#decoder = decoder;
    this.#weights = weights;
  }

  /**
   * Compiles side by side what single tokens and whole chunks need; on hardware all that a generation meets, the last
   * chunk of a text and whoever draws from the logits too. A processor takes seconds a kernel, so there the rest waits.
   */
  async prepare(): Promise<void> {
    const { stages, attention, workspace, config } = this.#decoder;
    const ids = workspace.put(new Uint32Array(1));
    const { software } = this.gpu.capabilities;
    // Plans change at powers of two, or have one between the numbers of tokens where they do; buffers are made largest first.
    const powers = Array.from({ length: Math.log2(this.preferredChunk) + 1 }, (_, i) => this.preferredChunk / 2 ** i);
    const kernels: Kernel[] = [];
    const add = (dispatches: readonly Dispatch[]) => kernels.push(...dispatches.map(({ kernel }) => kernel));
    for (const count of software ? [1, this.preferredChunk] : powers) {
      add(stages.embed(ids, count));
      for (let layer = 0; layer < config.layerCount; layer++) {
        add(stages.project(layer, count));
        add(stages.feedForward(layer, count, { first: 0, count }));
      }
      add(stages.head(count, { first: 0, count: 1 }));
      await eventLoopTurn(); // that took some milliseconds
      if (this.#disposed) return;
    }
    const choosers = software ? [] : [...argmaxKernels(), ...sampleKernels(this.gpu.capabilities)];
    await this.gpu.prepare([...attention.kernels, ...kernels, ...choosers]);
    await workspace.settled();
    await this.gpu.run([]);
  }

  get #owner(): StateOwner {
    return { backend: this, gpu: this.gpu, shape: this.#decoder.attention.shape };
  }

  createState(layouts: RingLayout | readonly RingLayout[]): SequenceState {
    return new GpuState(this.#owner, Rings.of(layouts, this.config.layerCount));
  }

  restoreState(layouts: RingLayout | readonly RingLayout[], bytes: Uint8Array): SequenceState {
    return GpuState.restore(this.#owner, layouts, bytes);
  }

  forward(request: ForwardRequest): Promise<Float32Array> {
    return this.#pass(request, (pass) => pass.run());
  }

  async sample(request: ForwardRequest, draw: Draw): Promise<SampledToken> {
    const id = await this.#pass(request, (pass) => pass.sample(draw));
    const logits = async () => {
      const state = this.#own(request.state);
      state.check();
      const [bytes] = await this.gpu.runAndRead([], [state.lastLogits(this.config.vocabSize)]);
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

  #own(state: SequenceState): GpuState {
    if (!(state instanceof GpuState) || state.backend !== this) throw foreignState(state, this);
    return state;
  }

  async #read<Result>(request: ForwardRequest, act: (pass: ChunkPass) => Promise<Result>): Promise<Result> {
    const state = this.#own(request.state);
    this.gpu.check();
    state.check();
    await state.settled();
    checkRequest(request, this.config);
    const hooks = request.hooks && watchedHooks(request.hooks, (hook) => this.#insideHook(hook));
    const pass = new ChunkPass(this.#decoder, state, { ...request, hooks });
    try {
      return await act(pass);
    } catch (error) {
      pass.abandon();
      if (error instanceof LongctxError && error.code === "device") {
        if (pass.started) state.break(error);
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
    if (this.#ownsDevice) this.gpu.destroy();
    else for (const slice of this.#weights) this.gpu.free(slice);
  }
}

/** The same hooks, each called by `call`, which knows then that whatever happens until it answers happens in a hook. */
function watchedHooks(hooks: LayerHooks, call: <Result>(hook: () => Result) => Result): LayerHooks {
  return {
    layers: (layer) => hooks.layers(layer),
    hidden: hooks.hidden && ((layer, hidden) => call(() => hooks.hidden!(layer, hidden))),
    queries: hooks.queries && ((view, plan) => call(() => hooks.queries!(view, plan))),
    attended: hooks.attended && ((view, attended) => call(() => hooks.attended!(view, attended))),
  };
}
