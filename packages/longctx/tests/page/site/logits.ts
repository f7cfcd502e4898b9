import { load, parseMethod } from "longctx";
import { watchThread } from "./held-thread.ts";
import type { LogitsRequest, Readings } from "./test-page.ts";

/** Logits [T, V] of each reading, on this thread. */
export async function logitsOf({ files, readings, trainedWindow, chunk }: LogitsRequest): Promise<Readings> {
  const held = watchThread();
  const model = await load(files, { device: "webgpu", trainedWindow });
  const heldWhileLoading = held();
  const logits: Float32Array[] = [];
  for (const { spec, ids } of readings) {
    const session = model.session({ method: parseMethod(spec), capacity: ids.length, chunk });
    logits.push(await session.prefill(ids, { logitRows: ids.length }));
    session.dispose();
  }
  await model.dispose();
  return { logits, heldWhileLoading };
}
