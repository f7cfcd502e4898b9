export { openGpu, Gpu, type GpuOptions } from "./gpu.ts";
export type { GpuSource } from "./adapter.ts";
export * from "./kernel.ts";
export { createWebGpu, WebGpuBackend, type WebGpuOptions } from "./webgpu-backend.ts";
