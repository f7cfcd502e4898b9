import type { Weights } from "./weights.ts";

/**
 * Reads the small tensors that a checkpoint holds for methods instead of the decoder, by canonical name
 * (`layers.0.method.infini_gate`). All are read at once, because a backend may close the checkpoint's file afterwards.
 */
export function learnedForMethods(weights: Weights): ReadonlyMap<string, Float32Array> {
  const names = [...weights.names()].filter((name) => /^layers\.\d+\.method\./.test(name));
  return new Map(names.map((name) => [name, weights.find(name)!.toFloat32()]));
}
