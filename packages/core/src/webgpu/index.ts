export { openGpu, Gpu, type GpuOptions } from "./device/gpu.ts";
export type { GpuSource } from "./device/adapter.ts";
export * from "./device/kernel.ts";
export { createWebGpu, type WebGpuOptions } from "./create-webgpu.ts";
export type { LoadingOptions } from "./weights/upload-in-slices.ts";
export { WebGpuBackend } from "./decoder/webgpu-backend.ts";
export { tune, type TuneOptions, type TuneResult, type TuneSizes } from "./tuning/tune.ts";
export { parseTuning, tuningRecord, type Tuning, type TuningSource } from "./tuning/tuning.ts";
