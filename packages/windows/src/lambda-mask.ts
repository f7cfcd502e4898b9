import { among, within, type Method, type Segment } from "@longctx/core";

/**
 * A Λ-shaped mask: splits each segment into the last `window` tokens, the query's own included, and those of the first
 * `sinks` tokens that have left the window. The latter get the positions of `far`.
 */
export function lambdaMask(
  segments: readonly Segment[],
  { sinks, window }: { readonly sinks: number; readonly window: number },
  far: Partial<Pick<Segment, "queryPosition" | "keyPosition">>,
): Segment[] {
  return segments
    .flatMap((segment) => {
      const old = within({ ...segment, ...far }, { from: window, to: Infinity });
      return [within(segment, { from: -Infinity, to: window }), old && among(old, { from: 0, to: sinks })];
    })
    .filter((segment) => segment !== null);
}

/**
 * The layout of a cache for queries that see the first `sinks` tokens and the last `window` tokens, their own included.
 * It has chunk − 1 slots more than that, because the first query of a chunk sees as many tokens before the window of
 * the last.
 */
export function boundedCache(sinks: number, window: number): NonNullable<Method["layout"]> {
  return ({ chunk }) => ({ capacity: sinks + window + chunk - 1, pinned: sinks });
}
