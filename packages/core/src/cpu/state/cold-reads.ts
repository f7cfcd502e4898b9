import type { AttentionPlan } from "../../method/plan.ts";
import type { ColdRead } from "./cold-layer.ts";
import type { CpuState } from "./cpu-state.ts";
import type { LayerState } from "./layer-state.ts";

/**
 * Returns where lanes find the tokens that a plan shows to queries [first, first + count) in a layer; without a plan they
 * read none.
 */
export function readTokens(
  state: CpuState,
  layer: number,
  plan: AttentionPlan | null,
  first: number,
  count: number,
): ColdRead {
  const own = state.layers[layer];
  const grow = (places: number) => state.growPlaces(layer, places, first);
  const read = plan && own.cold?.read(plan, own, { first, count }, grow);
  return read ?? { slots: own.slots, load: () => undefined };
}

/** Stores the keys and values of a chunk that layers have read, where their buffers hold near tokens alone. */
export function keepChunk(layers: readonly LayerState[], first: number, count: number): void {
  for (const layer of layers) layer.cold?.append(layer, first, count);
}
