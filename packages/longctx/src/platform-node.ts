import { openCheckpoint, resolveModel, type Checkpoint } from "@longctx/loaders";
import { TINY_MODEL } from "@longctx/tiny";
import type { CreateCpuBackend } from "./device.ts";
import type { OpenOptions } from "./load.ts";

export { readJson } from "./read-json.ts";

/** Whether there is a device beside the GPU and the reference. */
export const HAS_CPU: boolean = true;

export const createCpuBackend: CreateCpuBackend = async (config, weights, precision) => {
  const { createCpu } = await import("@longctx/core/cpu");
  return createCpu(config, weights, { precision });
};

/** `tiny` (embedded), `smollm2` (once fetched), a path, or `hf:org/name[@revision]`. */
export async function openReference(reference: string, options: OpenOptions): Promise<Checkpoint> {
  const path = reference === "tiny" ? TINY_MODEL : await resolveModel(reference, options);
  return openCheckpoint(path, { trainedWindow: options.trainedWindow });
}
