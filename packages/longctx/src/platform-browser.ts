import { LongctxError } from "@longctx/core";
import type { TuningSource } from "@longctx/core/webgpu";
import { fetchFile, openFiles, type Checkpoint } from "@longctx/loaders";
import type { CreateCpuBackend, OpenOptions } from "./platform.ts";

export const HAS_CPU: boolean = false;

export const createCpuBackend: CreateCpuBackend = async () => {
  throw new LongctxError(
    "device",
    "The device cpu is there in Node only; in a page take webgpu, or reference, which is slow and exact.",
  );
};

/** A page has no place for it: who measured there passes it to `createWebGpu`. */
export function storedTuning(): TuningSource {
  return {};
}

export function storeTuning(adapter: string, _record: Readonly<Record<string, unknown>>): string {
  throw new LongctxError("device", `A page has no place to keep the tuning of ${adapter}; ask for keep: false.`);
}

/** The address of a .gguf file. */
export async function openReference(reference: string, options: OpenOptions): Promise<Checkpoint> {
  if (reference.startsWith("hf:") || ["tiny", "smollm2"].includes(reference))
    throw new LongctxError(
      "file",
      `${reference} is known in Node only; give a page the address of a .gguf file, or File objects.`,
    );
  return openFiles(await fetchFile(reference, options), options);
}

/** What a method's spec names as a file. */
export function readJson(path: string): unknown {
  throw new LongctxError(
    "file",
    `A page cannot read ${path}; make the method by its function, which takes the numbers.`,
  );
}
