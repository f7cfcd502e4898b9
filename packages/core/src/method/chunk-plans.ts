import type { Composition } from "./composition.ts";
import type { ChunkContext } from "./method.ts";
import { samePlan, type AttentionPlan } from "./plan.ts";

/** The plan of each layer for one chunk; layers that see the same have one plan, which backends prepare once. */
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
