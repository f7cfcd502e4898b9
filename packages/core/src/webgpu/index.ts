export { openGpu, Gpu, type GpuOptions } from "./gpu.ts";
export type { GpuSource } from "./adapter.ts";
export * from "./kernel.ts";
export { createWebGpu, type WebGpuOptions } from "./create-webgpu.ts";
export type { LoadingOptions } from "./upload-in-slices.ts";
export { WebGpuBackend } from "./webgpu-backend.ts";
export { tune, type TuneOptions, type TuneResult, type TuneSizes } from "./tune.ts";
export { parseTuning, tuningRecord, type Tuning, type TuningSource } from "./tuning.ts";
