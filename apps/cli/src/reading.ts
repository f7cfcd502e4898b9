import {
  describeDevice,
  learnedForMethods,
  loadCheckpoint,
  LongctxError,
  parseMethod,
  type Checkpoint,
  type Composition,
  type DeviceChoice,
  type LanguageModel,
  type ModelContext,
} from "longctx";
import { openReference } from "./downloads.ts";
import { bytes } from "./format.ts";
import type { Io } from "./io.ts";
import type { ReadingOptions } from "./options.ts";
import { Progress } from "./progress.ts";

export interface Reading {
  readonly model: LanguageModel;
  readonly method: Composition | undefined;
}

/** The method of --method. @throws LongctxError "method" */
export function methodOf(options: Pick<ReadingOptions, "method">): Composition | undefined {
  return options.method === undefined ? undefined : parseMethod(options.method);
}

/**
 * Opens a checkpoint, lets `prepare` look at it before any weight is read, and loads the model: what is wrong with the
 * input is said at once. `bounded`: the method evicts, so a text of any length fits. Disposing of the model closes the checkpoint.
 */
export async function openModel<Prepared>(
  reference: string,
  options: ReadingOptions,
  io: Io,
  prepare: (checkpoint: Checkpoint, bounded: boolean) => Prepared,
): Promise<Reading & { readonly prepared: Prepared }> {
  const method = methodOf(options);
  const { device, precision, trainedWindow } = options;
  const checkpoint = await openReference(reference, io, trainedWindow);
  try {
    const context: ModelContext = {
      config: checkpoint.config,
      trainedWindow: trainedWindow ?? checkpoint.config.trainedWindow,
      learned: learnedForMethods(checkpoint.weights),
    };
    method?.check(context);
    const bounded = method?.layout({ ...context, chunk: options.chunk ?? 1, layer: 0 }) !== undefined;
    const prepared = prepare(checkpoint, bounded);
    const progress = new Progress(io, "Loading", 1000);
    // Who asks for the cpu or the reference by name knows what computes.
    const onDevice = (choice: DeviceChoice) => {
      progress.clear();
      if (device === "auto" || device === "webgpu") io.err(`${describeDevice(choice)}\n`);
    };
    const onWeights = (done: number, total: number) =>
      progress.update(done, total, `${bytes(done)} of ${bytes(total)}`);
    const loading = { device, precision, trainedWindow, onDevice, onWeights, signal: io.signal };
    const model = await loadCheckpoint(checkpoint, loading).finally(() => progress.clear());
    return { model, method, prepared };
  } catch (error) {
    checkpoint.close();
    throw error;
  }
}

export function checkIds(ids: readonly number[], { config }: Checkpoint): void {
  const wrong = ids.findIndex((id) => id >= config.vocabSize);
  if (wrong >= 0)
    throw new LongctxError(
      "argument",
      `Token ${wrong} has the id ${ids[wrong]}, but the model's ids go from 0 to ${config.vocabSize - 1}.`,
    );
}

/** The checkpoint's tokenizer. @throws LongctxError when it has none */
export function tokenizerOf(checkpoint: Checkpoint): NonNullable<Checkpoint["tokenizer"]> {
  if (checkpoint.tokenizer) return checkpoint.tokenizer;
  throw new LongctxError(
    "file",
    "The checkpoint has no tokenizer (tokenizer.json); use `longctx logits --ids` with token ids, or add the tokenizer.",
  );
}
