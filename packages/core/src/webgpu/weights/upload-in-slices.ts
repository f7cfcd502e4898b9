import { LongctxError } from "../../common/errors.ts";
import { eventLoopTurn } from "../../common/event-loop.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";
import type { UploadSteps } from "./weights-upload.ts";

export interface LoadingOptions {
  /** Told again and again while weights go to the device: bytes of the checkpoint that are there, and in all. */
  readonly onWeights?: (done: number, total: number) => void;
  /** Ends the loading with an error "aborted"; the device has then nothing of the model. */
  readonly signal?: AbortSignal;
}

/** Milliseconds for which the thread is held: half of what a screen takes from one picture to the next. */
const SLICE = 8;
/** Bytes that the driver may keep a copy of until they are written. */
const UNWRITTEN = 2 ** 25;

/**
 * Takes the steps a few milliseconds at a time, and between them lets the event loop go round and the device write what
 * it was handed. @throws what a step throws, and LongctxError "device" or "aborted"; all buffers are given back then
 */
export async function uploadInSlices<Result>(
  gpu: Gpu,
  steps: UploadSteps<Result>,
  { onBytes, signal }: { readonly onBytes: (done: number) => void; readonly signal?: AbortSignal },
): Promise<{ readonly result: Result; readonly slices: readonly GpuSlice[] }> {
  const slices: GpuSlice[] = [];
  let [done, written] = [0, 0];
  try {
    for (;;) {
      checkSignal(signal);
      const { result: made, told } = gpu.scoped(() => gpu.collect(() => slice(steps)));
      slices.push(...made.slices);
      await eventLoopTurn();
      await told;
      done += made.result.bytes;
      onBytes(done);
      if (made.result.end) return { result: made.result.end.value, slices };
      if (done - written < UNWRITTEN) continue;
      await gpu.run([]);
      written = done;
    }
  } catch (error) {
    for (const one of slices) gpu.free(one);
    throw error;
  }
}

/** Steps until the time is up, or the end. */
function slice<Result>(steps: UploadSteps<Result>): { bytes: number; end: IteratorReturnResult<Result> | null } {
  const until = performance.now() + SLICE;
  for (let bytes = 0; ;) {
    const step = steps.next();
    if (step.done) return { bytes, end: step };
    bytes += step.value;
    if (performance.now() >= until) return { bytes, end: null };
  }
}

/** What comes of the work, or an error as soon as the signal says so; what was begun then ends by itself. */
export async function unlessAborted<Result>(work: Promise<Result>, signal?: AbortSignal): Promise<Result> {
  if (!signal) return work;
  let stop: () => void = () => undefined;
  const stopped = new Promise<never>((_, reject) => {
    stop = () => reject(aborted());
    signal.addEventListener("abort", stop);
  });
  if (signal.aborted) stop();
  try {
    return await Promise.race([work, stopped]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** @throws LongctxError "aborted" */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted();
}

function aborted(): LongctxError {
  return new LongctxError("aborted", "Stopped while the model was loaded, as asked.");
}
