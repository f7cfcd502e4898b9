import type { AttentionPlan, Cache, Composition, ModelConfig } from "@longctx/core";

/** The plans of the next `count` tokens, as a session makes them: one for all layers. */
export function planOf(
  config: ModelConfig,
  method: Composition,
  { slots }: Cache,
  count: number,
): (layer: number) => AttentionPlan {
  const length = slots.length + count;
  const plan = method.plan({
    config,
    trainedWindow: config.trainedWindow,
    first: slots.length,
    count,
    layer: 0,
    length,
    promptLength: length,
  });
  return () => plan;
}
