import { among, within, type Method, type Segment } from "@longctx/core";

/**
 * Applies a Λ-shaped mask: a query sees the last `window` tokens, its own included, and of the first `sinks` tokens
 * those that lie before this window. The first tokens get the positions in `far`.
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
 * Returns a ring layout for queries that see the first `sinks` tokens and the last `window` tokens, their own included.
 * The ring has chunk − 1 extra slots, because the first query of a chunk sees back chunk − 1 tokens further than the
 * last one.
 */
export function boundedCache(sinks: number, window: number): NonNullable<Method["layout"]> {
  return ({ chunk }) => ({ capacity: sinks + window + chunk - 1, pinned: sinks });
}
