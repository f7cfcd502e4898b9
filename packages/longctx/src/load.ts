import { openReference } from "#platform";
import { LanguageModel, LongctxError, listed, PRECISIONS, type Precision } from "@longctx/core";
import type { LoadingOptions } from "@longctx/core/webgpu";
import { openFiles, type Checkpoint } from "@longctx/loaders";
import { createBackend, DEVICES, type Device, type DeviceChoice } from "./device.ts";
import type { OpenOptions } from "./platform.ts";

/**
 * In Node a name: `tiny` (embedded), `smollm2` (once fetched), a GGUF file, a folder in Hugging Face layout, or
 * `hf:org/name[@revision]`. In a page the address of a GGUF file. In both, a GGUF file as a Blob, or the files of such a
 * folder as File objects.
 */
export type ModelSource = string | Blob | readonly File[];

export interface LoadOptions extends OpenOptions, LoadingOptions {
  /** `auto` (the default) takes a hardware GPU if there is one, else the cpu; `webgpu`, and `auto` in a page, any adapter. */
  readonly device?: Device;
  /** Told what was chosen, and why. */
  readonly onDevice?: (choice: DeviceChoice) => void;
  /** `exact` (the default) or `fast`: int8 products on the cpu, keys, values and long products of 16 bits on a GPU (see `Precision`). */
  readonly precision?: Precision;
}

/** A model, ready to read: `load("tiny")`, `load("model.gguf")`, `load(input.files[0])`. */
export async function load(source: ModelSource, options: LoadOptions = {}): Promise<LanguageModel> {
  checkBackend(options); // before a download
  const checkpoint = await open(source, options);
  try {
    const model = await loadCheckpoint(checkpoint, options);
    // A page may hold the whole file in memory, and the GPU has all of it now.
    if (model.backend.device === "webgpu") checkpoint.close();
    return model;
  } catch (error) {
    checkpoint.close();
    throw error;
  }
}

/** The model of an open checkpoint, for programs that look at the description first. Disposing of the model closes it. */
export async function loadCheckpoint(
  checkpoint: Checkpoint,
  options: Omit<LoadOptions, "onProgress"> = {},
): Promise<LanguageModel> {
  const { device, precision } = checkBackend(options);
  if (options.signal?.aborted) throw new LongctxError("aborted", "Stopped before the model was loaded, as asked.");
  const { backend, choice } = await createBackend(checkpoint, device, precision, options);
  options.onDevice?.(choice);
  const { tokenizer, chatTemplate, weights } = checkpoint;
  const { trainedWindow } = options;
  const onDispose = () => checkpoint.close();
  try {
    return new LanguageModel({ backend, weights, tokenizer, chatTemplate, trainedWindow, onDispose });
  } catch (error) {
    await backend.dispose(); // a file that was cut short since the backend read it
    throw error;
  }
}

function checkBackend({ device = "auto", precision = "exact" }: LoadOptions): { device: Device; precision: Precision } {
  if (!DEVICES.includes(device))
    throw new LongctxError("device", `There is no device "${String(device)}"; there is ${listed(DEVICES)}.`);
  if (!PRECISIONS.includes(precision))
    throw new LongctxError("argument", `There is no precision "${String(precision)}"; there is ${listed(PRECISIONS)}.`);
  return { device, precision };
}

/** The checkpoint behind a name or in files, without its weights on a device; the caller closes it. */
export async function open(source: ModelSource, options: OpenOptions = {}): Promise<Checkpoint> {
  return typeof source === "string" ? openReference(source, options) : openFiles(source, options);
}
