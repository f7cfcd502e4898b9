import type { LayerHooks } from "../backend/backend.ts";
import type { Capture } from "./capture.ts";
import type { Composition } from "../method/composition.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Method, MethodState } from "../method/method.ts";
import type { AttentionPlan } from "../method/plan.ts";

/**
 * One stop a layer for everything that wants one: retrieval first, then capture of what results, then memory. What nobody
 * asks to see is left out, since a GPU has to be waited for to show it.
 */
export function layerHooks(
  config: ModelConfig,
  method: Composition,
  memory: ReadonlyMap<Method, MethodState>,
  plan: (layer: number) => AttentionPlan,
  capture: Capture | undefined,
): LayerHooks | undefined {
  const selecting = method.parts.flatMap((part) => (part.select ? [part.select] : []));
  const remembering = [...memory].map(([part, state]) => ({ layers: part.memory!.layers, state }));
  if (selecting.length === 0 && remembering.length === 0 && !capture) return undefined;
  return {
    layers: (layer) =>
      Boolean(capture?.layers.has(layer)) ||
      selecting.some((select) => select.layers(layer)) ||
      remembering.some((part) => part.layers(layer)),
    hidden: capture?.wants.hidden ? (layer, hidden) => capture.addHidden(layer, hidden) : undefined,
    queries:
      selecting.length > 0 || capture?.wants.attention
        ? async (view) => {
            let chosen = plan(view.layer);
            for (const select of selecting) if (select.layers(view.layer)) chosen = await select.plan(chosen, view);
            capture?.addAttention(config, chosen, view);
            return chosen;
          }
        : undefined,
    attended:
      remembering.length > 0
        ? (view, attended) =>
            remembering.reduce(
              (output, part) => (part.layers(view.layer) ? part.state.attended(view, output) : output),
              attended,
            )
        : undefined,
  };
}
