import { TEXT_POSITION, within, type Segment } from "@longctx/core";

/**
 * Returns whether queries and keys of a segment are at their text positions, so that no other method has moved them
 * yet.
 */
export function atTextPositions({ queryPosition, keyPosition }: Segment): boolean {
  return queryPosition.id === TEXT_POSITION.id && keyPosition.id === TEXT_POSITION.id;
}

/**
 * Splits each segment at a window of distances: tokens at a distance below `window`, also tokens ahead of their query
 * (negative distance), keep their positions; tokens at a distance of `window` or more get the positions in `far`.
 * Segments that another method has already moved stay whole.
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
