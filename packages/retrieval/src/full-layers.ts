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
