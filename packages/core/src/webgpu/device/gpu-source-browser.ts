import { LongctxError } from "../../common/errors.ts";
import type { GpuSource } from "./gpu-source.ts";

export const NO_ADAPTER: string =
  "This browser has no WebGPU adapter: no GPU, or one that it does not trust. Switch hardware acceleration on (chrome://gpu tells what is off); on Linux Chrome may ask for --enable-unsafe-webgpu.";

/** @throws LongctxError "device" when this browser, or this page, has no WebGPU */
export async function gpuSource(): Promise<GpuSource> {
  const { gpu } = (globalThis as { navigator?: { gpu?: GPU } }).navigator ?? {};
  if (!gpu)
    throw new LongctxError(
      "device",
      "There is no WebGPU here. Use a newer browser, and serve the page over https or from localhost.",
    );
  return { gpu, release: () => undefined };
}
