import { LongctxError, type ModelContext } from "@longctx/core";

/**
 * Returns a check that a model has layers that see the whole text, since nothing is retrieved from beyond a layer's own
 * sliding window. @throws LongctxError "method" where every layer has one
 */
export function needsFullLayers(method: string): (context: ModelContext) => void {
  return ({ config }) => {
    if (config.slidingWindows.every((window) => window !== null))
      throw new LongctxError(
        "method",
        `${method}: every layer of the model has a sliding window of its own, beyond which nothing is retrieved; use a model with layers that see the whole text.`,
      );
  };
}

/** Layers that a spec names: all, or their numbers from 0. */
export type Layers = "all" | readonly number[];

/** True where `layers` names layer number `layer`. */
export function isNamed(layers: Layers, layer: number): boolean {
  return layers === "all" || layers.includes(layer);
}

/** @throws LongctxError "method" where `layers` names a layer that the model does not have */
export function needsLayers(method: string, layers: Layers, { config }: ModelContext): void {
  const missing = layers === "all" ? undefined : layers.find((layer) => layer >= config.layerCount);
  if (missing !== undefined)
    throw new LongctxError(
      "method",
      `${method}: layers names layer ${missing}, but the model has layers 0 to ${config.layerCount - 1}.`,
    );
}
