import type { TuningSource } from "@longctx/core/webgpu";
import { openCheckpoint, resolveModel, type Checkpoint } from "@longctx/loaders";
import { TINY_MODEL } from "@longctx/tiny";
import type { CreateCpuBackend, OpenOptions } from "./platform.ts";
import { readTuning } from "./tuning-file.ts";

export { readJson } from "./read-json.ts";
export { writeTuning as storeTuning } from "./tuning-file.ts";

/**
 * What `longctx tune` stored for the adapter at hand. A file of ours that cannot be used is told on stderr and not used;
 * one that LONGCTX_TUNING names has to be right.
 */
export function storedTuning(): TuningSource {
  const tell = (problem: string) => void process.stderr.write(`${problem}\n`);
  return { tuning: readTuning, ...(process.env["LONGCTX_TUNING"] ? {} : { onTuningProblem: tell }) };
}

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
