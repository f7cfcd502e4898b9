import type { LanguageModel, Method } from "@longctx/core";
import { tinyIds } from "./devices.ts";

/** Layer 1 sees the last 6 tokens; with `bounded` it holds no more than a chunk needs, and layer 0 holds everything. */
export function unlike(bounded: boolean): Method {
  return {
    spec: "unlike",
    axes: ["visibility"],
    segments: (segments, { layer }) =>
      segments.map((segment) => (layer === 1 ? { ...segment, band: { from: 0, to: 6 } } : segment)),
    ...(bounded
      ? { layout: ({ layer, chunk }) => (layer === 1 ? { capacity: 5 + chunk, pinned: 0 } : undefined) }
      : {}),
  };
}

/** Reads, generates, forks and restores; all logits after the first part. */
export async function readInParts(model: LanguageModel, method: Method, chunk: number): Promise<Float32Array[]> {
  const ids = tinyIds(60);
  const session = model.session({ method, chunk, capacity: 64 });
  await session.prefill(ids.slice(0, 40));
  const fork = session.fork();
  const restored = model.restoreSession(await session.save(), { method, chunk, capacity: 64 });
  const logits: Float32Array[] = [];
  for (const one of [session, fork, restored]) {
    logits.push(await one.prefill(ids.slice(40, 59), { logitRows: 19 }));
    logits.push(await one.prefill(ids.slice(59)));
  }
  return logits;
}
