import { LongctxError } from "../errors.ts";
import type { GpuSource } from "./adapter.ts";

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
