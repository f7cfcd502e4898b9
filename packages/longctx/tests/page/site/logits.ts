import { load, parseMethod } from "longctx";
import type { LogitsRequest } from "./test-page.ts";

/** Logits [T, V] of each reading. */
export async function logitsOf({ files, readings, trainedWindow, chunk }: LogitsRequest): Promise<Float32Array[]> {
  const model = await load(files, { device: "webgpu", trainedWindow });
  const all: Float32Array[] = [];
  for (const { spec, ids } of readings) {
    const session = model.session({ method: parseMethod(spec), capacity: ids.length, chunk });
    all.push(await session.prefill(ids, { logitRows: ids.length }));
    session.dispose();
  }
  await model.dispose();
  return all;
}
