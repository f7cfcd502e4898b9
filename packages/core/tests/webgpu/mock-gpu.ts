import type { GpuSource } from "../../src/webgpu/adapter.ts";

export interface MockOptions {
  readonly description?: string;
  readonly features?: readonly string[];
  readonly limits?: Readonly<Record<string, number>>;
  /** The runtime has no adapter. */
  readonly none?: boolean;
}

/** What was asked of a mocked device. Buffers hold no bytes: what is read of them is zeros. */
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
  /** What the next error scopes answer, innermost first: validation, out-of-memory, internal. */
  scopeErrors: (GPUError | null)[] = [];
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
    const { description = "A mocked adapter", features = [], limits = {} } = this.#options;
    const all = { ...LIMITS, ...limits };
    const adapter = {
      info: { description, vendor: "", architecture: "", device: "" },
      features: new Set(features),
      limits: all,
      requestDevice: async (descriptor: GPUDeviceDescriptor) => {
        this.requested = descriptor;
        return this.#device(all, new Set(descriptor.requiredFeatures));
      },
    };
    return adapter as unknown as GPUAdapter;
  }

  #device(limits: object, features: ReadonlySet<string>): GPUDevice {
    const listen = (handler: MockGpu["uncaptured"]) => (this.uncaptured = handler);
    const device = {
      limits,
      features,
      lost: new Promise((resolve) => (this.lose = resolve)),
      set onuncapturederror(handler: MockGpu["uncaptured"]) {
        listen(handler);
      },
      queue: {
        writeBuffer: (_: GPUBuffer, at: number, __: ArrayBuffer, from = 0, size = 0) => {
          this.log.writes++;
          if (size >= LARGE) this.written.push({ at, from, size });
        },
        submit: () => this.log.submits++,
        onSubmittedWorkDone: async () => undefined,
      },
      pushErrorScope: () => undefined,
      popErrorScope: async () => this.scopeErrors.shift() ?? null,
      createBuffer: ({ size }: GPUBufferDescriptor) => this.#buffer(size),
      createShaderModule: ({ code }: GPUShaderModuleDescriptor) => {
        this.modules.push(code);
        return { getCompilationInfo: async () => ({ messages: [] }) };
      },
      createBindGroupLayout: () => ({}),
      createPipelineLayout: () => ({}),
      createComputePipelineAsync: async ({ label }: GPUComputePipelineDescriptor) => {
        this.log.pipelines++;
        return { label };
      },
      createBindGroup: () => {
        this.log.bindGroups++;
        return {};
      },
      createCommandEncoder: () => this.#encoder(),
      destroy: () => void (this.deviceDestroyed = true),
    };
    return device as unknown as GPUDevice;
  }

  #buffer(size: number): object {
    this.log.buffers++;
    this.bytes += size;
    return {
      size,
      mapAsync: async () => undefined,
      getMappedRange: (_: number, length: number) => {
        this.read += length;
        return new ArrayBuffer(length);
      },
      unmap: () => undefined,
      destroy: () => {
        this.bytes -= size;
        this.log.destroyed++;
      },
    };
  }

  #encoder(): object {
    return {
      copyBufferToBuffer: () => undefined,
      finish: () => ({}),
      beginComputePass: () => {
        this.log.passes++;
        let current = "";
        return {
          setPipeline: ({ label }: { label: string }) => void (current = label),
          setBindGroup: () => undefined,
          dispatchWorkgroups: () => void this.dispatched.push(current),
          end: () => undefined,
        };
      },
    };
  }
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
