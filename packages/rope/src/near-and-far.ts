import { TEXT_POSITION, within, type Segment } from "@longctx/core";

/** Whether queries and keys of a segment are still at their text positions, so that no method has moved them. */
export function atTextPositions({ queryPosition, keyPosition }: Segment): boolean {
  return queryPosition.id === TEXT_POSITION.id && keyPosition.id === TEXT_POSITION.id;
}

/**
 * Splits each segment at a window: tokens at a distance below `window` keep it, tokens ahead of their query included,
 * whose distance is negative; tokens from `window` on get the positions of `far`. Segments that a method has moved stay
 * whole.
 */
export function nearAndFar(
  segments: readonly Segment[],
  window: number,
  far: Pick<Segment, "queryPosition" | "keyPosition">,
): Segment[] {
  return segments
    .flatMap((segment) =>
      atTextPositions(segment)
        ? [
            within(segment, { from: -Infinity, to: window }),
            within({ ...segment, ...far }, { from: window, to: Infinity }),
          ]
        : [segment],
    )
    .filter((segment) => segment !== null);
}
