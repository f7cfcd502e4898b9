import { LongctxError } from "../../common/errors.ts";
import type { GpuSource } from "./gpu-source.ts";

export const NO_ADAPTER: string =
  "There is no WebGPU adapter: no GPU, or no Vulkan, Metal or Direct3D 12 driver for it. Install the driver (Linux without a GPU: Mesa's lavapipe, version 23 or later), or use --device cpu.";

/**
 * The runtime's own WebGPU where it has one (Deno), else Dawn, Chrome's WebGPU, as the optional package `webgpu`; loaded
 * only when a GPU is asked for. @throws LongctxError "device" when there is neither
 */
export async function gpuSource(): Promise<GpuSource> {
  const own = (globalThis as { navigator?: { gpu?: GPU } }).navigator?.gpu;
  if (own) return { gpu: own, release: () => undefined };
  let create: (options: string[]) => GPU;
  try {
    ({ create } = await import("webgpu"));
  } catch (cause) {
    throw new LongctxError(
      "device",
      `WebGPU in Node needs the package webgpu, which could not be loaded (${firstLine(cause)}). Install it (npm install webgpu), or use --device cpu.`,
      { cause },
    );
  }
  // Pages may only know times to 65 µs, which is longer than most kernels take.
  let gpu: GPU | null = create(["disable-dawn-features=timestamp_quantization"]);
  return {
    get gpu() {
      if (!gpu) throw new LongctxError("device", "This WebGPU device was closed; open another one.");
      return gpu;
    },
    release: () => {
      gpu = null;
    },
  };
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split("\n", 1)[0];
}
