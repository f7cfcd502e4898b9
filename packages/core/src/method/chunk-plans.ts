import type { Composition } from "./composition.ts";
import type { ChunkContext } from "./method.ts";
import { samePlan, type AttentionPlan } from "./plan.ts";

/**
 * Returns a function from a layer to its attention plan for one chunk. Layers whose plans are equal share one object,
 * so that a backend prepares each distinct plan once.
 */
export function chunkPlans(method: Composition, chunk: Omit<ChunkContext, "layer">): (layer: number) => AttentionPlan {
  const table = method.table(chunk, chunk.length);
  const plans: AttentionPlan[] = [];
  const ofLayers: AttentionPlan[] = [];
  return (layer) => {
    if (!ofLayers[layer]) {
      const made = method.plan({ ...chunk, layer }, table);
      const same = plans.find((known) => samePlan(known, made));
      if (!same) plans.push(made);
      ofLayers[layer] = same ?? made;
    }
    return ofLayers[layer];
  };
}
