import type { LayerHooks } from "../backend/backend.ts";
import type { Method, MethodState } from "../method/method.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Capture } from "./capture.ts";

/**
 * Combines methods' hooks and a capture into the callbacks of a forward pass over queries [first, first + count): hooks
 * change the plan, then attention is captured, then hooks change the layer's output. Callbacks that nobody needs are left
 * out, because a GPU is waited for at each.
 */
export function layerHooks(
  config: ModelConfig,
  hooks: ReadonlyMap<Method, MethodState>,
  capture: Capture | undefined,
  chunk: { readonly first: number; readonly count: number },
): LayerHooks | undefined {
  const attention = capture?.watchesAttention(chunk) ?? false;
  const hidden = capture?.wants.hidden ?? false;
  if (hooks.size === 0 && !attention && !hidden) return undefined;
  const all = [...hooks].map(([method, state]) => ({ layers: method.hook!.layers, state }));
  const planning = all.filter(({ state }) => state.plan);
  const changing = all.filter(({ state }) => state.attended);
  return {
    layers: (layer) => Boolean(capture?.watches(layer, chunk)) || all.some((hook) => hook.layers(layer)),
    hidden: hidden ? (layer, stream) => capture!.addHidden(layer, stream) : undefined,
    queries:
      planning.length > 0 || attention
        ? async (view, plan) => {
            let chosen = plan;
            for (const { layers, state } of planning) if (layers(view.layer)) chosen = await state.plan!(chosen, view);
            capture?.addAttention(config, chosen, view);
            return chosen;
          }
        : undefined,
    attended:
      changing.length > 0
        ? (view, attended) =>
            changing.reduce(
              (output, { layers, state }) => (layers(view.layer) ? state.attended!(view, output) : output),
              attended,
            )
        : undefined,
  };
}
