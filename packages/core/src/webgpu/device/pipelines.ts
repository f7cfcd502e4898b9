import { LongctxError } from "../../common/errors.ts";
import type { Kernel } from "./kernel.ts";
import { COMPUTE_STAGE, roundUp } from "./numbers.ts";

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  /** Bytes of the uniform block; 0 where there is none. */
  readonly uniformSize: number;
  /** Counts pipelines, for the keys of bind groups. */
  readonly id: number;
}

/** Compiled kernels by name. Those of a chunk are compiled side by side, before anything is recorded. */
export class Pipelines {
  readonly #device: GPUDevice;
  readonly #ready = new Map<string, Pipeline>();
  readonly #compiling = new Map<string, Promise<void>>();
  #count = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  has(kernel: Kernel): boolean {
    return this.#ready.has(kernel.name);
  }

  get(kernel: Kernel): Pipeline {
    return this.#ready.get(kernel.name)!;
  }

  get size(): number {
    return this.#ready.size;
  }

  /** @throws LongctxError "device" when the driver does not take the code */
  async prepare(kernels: Iterable<Kernel>): Promise<void> {
    const missing = new Map<string, Kernel>();
    for (const kernel of kernels) if (!this.#ready.has(kernel.name)) missing.set(kernel.name, kernel);
    await Promise.all(
      [...missing.values()].map((kernel) => {
        const known = this.#compiling.get(kernel.name);
        if (known) return known;
        const compiling = this.#compile(kernel).finally(() => this.#compiling.delete(kernel.name));
        this.#compiling.set(kernel.name, compiling);
        return compiling;
      }),
    );
  }

  async #compile(kernel: Kernel): Promise<void> {
    const device = this.#device;
    const { name: label, code, bindings, uniforms, features } = kernel;
    const lacking = features.find((feature) => !device.features.has(feature));
    if (lacking) throw new LongctxError("device", `The kernel ${label} needs ${lacking}, which the device has not.`);
    const uniformSize = roundUp(4 * uniforms.length, 16);
    const entries: GPUBindGroupLayoutEntry[] = bindings.map((use, binding) => ({
      binding,
      visibility: COMPUTE_STAGE,
      buffer: { type: use === "read" ? "read-only-storage" : "storage" },
    }));
    if (uniformSize > 0)
      entries.push({
        binding: bindings.length,
        visibility: COMPUTE_STAGE,
        buffer: { type: "uniform", hasDynamicOffset: true, minBindingSize: uniformSize },
      });
    // Errors of the code are told by the promise and by the module's messages, not by an event as well.
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label, code });
    const layout = device.createBindGroupLayout({ label, entries });
    const made = device.createComputePipelineAsync({
      label,
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    const scope = device.popErrorScope();
    scope.catch(() => undefined); // when the promise already knows better
    try {
      const pipeline = await made;
      await scope;
      this.#ready.set(label, { pipeline, layout, uniformSize, id: this.#count++ });
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const first = messages.find(({ type }) => type === "error");
      const why = first
        ? `line ${first.lineNum}: ${first.message} in "${code.split("\n")[first.lineNum - 1]?.trim()}"`
        : String(cause instanceof Error ? cause.message : cause).trim();
      throw new LongctxError("device", `The kernel ${label} does not compile: ${why}`, { cause });
    }
  }
}
