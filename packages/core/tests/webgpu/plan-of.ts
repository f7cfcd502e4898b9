import type { AttentionPlan, Composition, ModelConfig, SequenceState } from "@longctx/core";

/** The plans of the next `count` tokens, as a session makes them: one for all layers. */
export function planOf(
  config: ModelConfig,
  method: Composition,
  { rings }: SequenceState,
  count: number,
): (layer: number) => AttentionPlan {
  const length = rings.length + count;
  const plan = method.plan({
    config,
    trainedWindow: config.trainedWindow,
    first: rings.length,
    count,
    layer: 0,
    length,
    promptLength: length,
  });
  return () => plan;
}
