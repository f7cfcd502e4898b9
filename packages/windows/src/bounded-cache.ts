import type { Method } from "@longctx/core";

/**
 * The layout of a cache for queries that see the first `sinks` tokens and the last `window`, their own included. Each
 * query of a chunk reaches back `window` tokens, so the first one needs chunk − 1 more than the last.
 */
export function boundedCache(sinks: number, window: number): NonNullable<Method["layout"]> {
  return ({ chunk }) => ({ capacity: sinks + window + chunk - 1, pinned: sinks });
}
