import type { GpuSource } from "../../src/webgpu/device/gpu-source.ts";

export interface MockOptions {
  readonly description?: string;
  readonly device?: string;
  readonly features?: readonly string[];
  readonly limits?: Readonly<Record<string, number>>;
  /** Where it says that it computes on a processor. */
  readonly fallback?: "adapter" | "info";
  /** Labels of the pipelines that its driver does not compile. */
  readonly failing?: readonly string[];
  /** The runtime has no adapter. */
  readonly none?: boolean;
}

interface MockBuffer {
  readonly size: number;
  readonly label: string;
  /** The device had no memory for it, or it was destroyed. */
  valid: boolean;
}

/**
 * What was asked of a mocked device. Buffers hold no bytes: what is read of them is zeros. Those that could not be made,
 * or were destroyed, are noticed where they are used, and so are offsets and sizes that no device takes.
 */
export class MockGpu {
  readonly modules: string[] = [];
  /** Names of pipelines, in the order they were dispatched. */
  dispatched: string[] = [];
  readonly log = { buffers: 0, bindGroups: 0, pipelines: 0, passes: 0, submits: 0, destroyed: 0, writes: 0 };
  /** Bytes of buffers that were not destroyed. */
  bytes = 0;
  /** Large writes: where to in the buffer, and where from. */
  readonly written: { readonly at: number; readonly from: number; readonly size: number }[] = [];
  /** Bytes that were read back. */
  read = 0;
  deviceDestroyed = false;
  released = false;
  requested: GPUDeviceDescriptor | undefined;
  /** What the next error scopes answer, innermost first: validation, internal, out-of-memory. */
  scopeErrors: (GPUError | null)[] = [];
  /** The next buffer with this label cannot be made: out of memory. */
  failNext: string | null = null;
  /** Bytes of the largest buffer by label. */
  readonly largest: Record<string, number> = {};
  /** What the next mapping is refused with. */
  mapFailure: Error | null = null;
  readonly #scopes: { readonly filter: GPUErrorFilter; error: GPUError | null }[] = [];
  lose: (info: { reason: string; message: string }) => void = () => undefined;
  uncaptured: ((event: { error: GPUError }) => void) | null = null;
  readonly #options: MockOptions;

  constructor(options: MockOptions = {}) {
    this.#options = options;
  }

  get source(): GpuSource {
    const requestAdapter = async () => (this.#options.none ? null : this.#adapter());
    return { gpu: { requestAdapter } as unknown as GPU, release: () => void (this.released = true) };
  }

  #adapter(): GPUAdapter {
    const { description = "A mocked adapter", device = "", features = [], limits = {}, fallback } = this.#options;
    const all = { ...LIMITS, ...limits };
    const adapter = {
      info: { description, vendor: "", architecture: "", device, isFallbackAdapter: fallback === "info" },
      isFallbackAdapter: fallback === "adapter",
      features: new Set(features),
      limits: all,
      requestDevice: async (descriptor: GPUDeviceDescriptor) => {
        this.requested = descriptor;
        return this.#device(all, new Set(descriptor.requiredFeatures));
      },
    };
    return adapter as unknown as GPUAdapter;
  }

  #device(limits: typeof LIMITS, features: ReadonlySet<string>): GPUDevice {
    const listen = (handler: MockGpu["uncaptured"]) => (this.uncaptured = handler);
    const device = {
      limits,
      features,
      lost: new Promise((resolve) => (this.lose = resolve)),
      set onuncapturederror(handler: MockGpu["uncaptured"]) {
        listen(handler);
      },
      queue: {
        writeBuffer: (buffer: MockBuffer, at: number, data: ArrayBuffer, from = 0, size = data.byteLength - from) => {
          this.log.writes++;
          this.#use(buffer);
          this.#checkRange(buffer, at, size);
          if (size >= LARGE) this.written.push({ at, from, size });
        },
        submit: (all: { readonly used: readonly MockBuffer[] }[]) => {
          this.log.submits++;
          for (const { used } of all) for (const buffer of used) this.#use(buffer);
        },
        onSubmittedWorkDone: async () => undefined,
      },
      pushErrorScope: (filter: GPUErrorFilter) => void this.#scopes.push({ filter, error: null }),
      popErrorScope: () => {
        const { error } = this.#scopes.pop()!;
        return Promise.resolve(this.scopeErrors.shift() ?? error);
      },
      createBuffer: ({ size, label = "" }: GPUBufferDescriptor) => this.#buffer(size, label),
      createQuerySet: ({ count }: GPUQuerySetDescriptor) => {
        if (count > 4096) this.#refuse(`${count} queries`);
        return { destroy: () => undefined };
      },
      createShaderModule: ({ code }: GPUShaderModuleDescriptor) => {
        this.modules.push(code);
        return { getCompilationInfo: async () => ({ messages: [] }) };
      },
      createBindGroupLayout: () => ({}),
      createPipelineLayout: () => ({}),
      createComputePipelineAsync: async ({ label = "" }: GPUComputePipelineDescriptor) => {
        if (this.#options.failing?.includes(label)) throw new Error(`Internal compiler error in ${label}`);
        this.log.pipelines++;
        return { label };
      },
      createBindGroup: ({ entries }: { entries: { resource: MockBinding }[] }) => {
        this.log.bindGroups++;
        for (const { resource } of entries) {
          const { buffer, offset, size } = resource;
          this.#use(buffer);
          this.#checkRange(buffer, offset, size);
          if (offset % 256 !== 0 || size === 0 || size > limits.maxStorageBufferBindingSize)
            this.#refuse(`a binding of ${buffer.label}, ${size} bytes from ${offset} on`);
        }
        return { used: entries.map(({ resource }) => resource.buffer) };
      },
      createCommandEncoder: () => this.#encoder(limits.maxComputeWorkgroupsPerDimension),
      destroy: () => void (this.deviceDestroyed = true),
    };
    return device as unknown as GPUDevice;
  }

  /** To the innermost scope that takes it, or to nobody. */
  #report(filter: GPUErrorFilter, error: GPUError): void {
    const scope = this.#scopes.findLast((candidate) => candidate.filter === filter);
    if (scope) scope.error ??= error;
    else this.uncaptured?.({ error });
  }

  #use({ valid }: MockBuffer): void {
    if (!valid) this.#refuse("A buffer is invalid or was destroyed.");
  }

  /** Whole words inside of the buffer. */
  #checkRange({ size: end, label }: MockBuffer, at: number, size: number): void {
    if (at % 4 !== 0 || size % 4 !== 0 || at + size > end)
      this.#refuse(`${size} bytes from ${at} on of ${label}, which has ${end}`);
  }

  #refuse(what: string): void {
    this.#report("validation", gpuError("GPUValidationError", what));
  }

  #buffer(size: number, label: string): object {
    this.log.buffers++;
    this.bytes += size;
    this.largest[label] = Math.max(this.largest[label] ?? 0, size);
    const valid = label !== this.failNext;
    if (!valid) {
      this.failNext = null;
      this.#report("out-of-memory", gpuError("GPUOutOfMemoryError", `no room for ${label}`));
    }
    const buffer = {
      size,
      label,
      valid,
      mapAsync: async () => {
        const failure = this.mapFailure;
        this.mapFailure = null;
        if (failure) throw failure;
        if (!buffer.valid) throw new Error("AbortError");
      },
      getMappedRange: (_: number, length: number) => {
        this.read += length;
        return new ArrayBuffer(length);
      },
      unmap: () => undefined,
      destroy: () => {
        buffer.valid = false;
        this.bytes -= size;
        this.log.destroyed++;
      },
    };
    return buffer;
  }

  #encoder(mostWorkgroups: number): object {
    const used: MockBuffer[] = [];
    return {
      copyBufferToBuffer: (from: MockBuffer, fromAt: number, to: MockBuffer, at: number, size: number) => {
        used.push(from, to);
        this.#checkRange(from, fromAt, size);
        this.#checkRange(to, at, size);
        if (from === to) this.#refuse(`a copy of ${size} bytes within ${from.label}`);
      },
      resolveQuerySet: () => undefined,
      finish: () => ({ used }),
      beginComputePass: () => {
        this.log.passes++;
        let current = "";
        return {
          setPipeline: ({ label }: { label: string }) => void (current = label),
          setBindGroup: (_: number, group: { used: readonly MockBuffer[] }) => void used.push(...group.used),
          dispatchWorkgroups: (...workgroups: readonly number[]) => {
            this.dispatched.push(current);
            if (workgroups.some((count) => count > mostWorkgroups))
              this.#refuse(`${workgroups.join(" × ")} workgroups`);
          },
          end: () => undefined,
        };
      },
    };
  }
}

interface MockBinding {
  readonly buffer: MockBuffer;
  readonly offset: number;
  readonly size: number;
}

/** Bytes of a write that is worth a note. */
const LARGE = 2 ** 20;

/** Those that every WebGPU device has. */
const LIMITS = {
  maxBufferSize: 268435456,
  maxStorageBufferBindingSize: 134217728,
  maxStorageBuffersPerShaderStage: 8,
  maxComputeWorkgroupStorageSize: 16384,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupsPerDimension: 65535,
};

export function gpuError(
  kind: "GPUValidationError" | "GPUOutOfMemoryError" | "GPUInternalError",
  message: string,
): GPUError {
  const kinds = {
    GPUValidationError: class GPUValidationError {
      readonly message = message;
    },
    GPUOutOfMemoryError: class GPUOutOfMemoryError {
      readonly message = message;
    },
    GPUInternalError: class GPUInternalError {
      readonly message = message;
    },
  };
  return new kinds[kind]();
}
