import type { LayerHooks } from "../../backend/backend.ts";

/** The same hooks, each called by `call`, which knows then that whatever happens until it answers happens in a hook. */
export function watchedHooks(hooks: LayerHooks, call: <Result>(hook: () => Result) => Result): LayerHooks {
  return {
    layers: (layer) => hooks.layers(layer),
    hidden: hooks.hidden && ((layer, hidden) => call(() => hooks.hidden!(layer, hidden))),
    queries: hooks.queries && ((view, plan) => call(() => hooks.queries!(view, plan))),
    attended: hooks.attended && ((view, attended) => call(() => hooks.attended!(view, attended))),
  };
}
