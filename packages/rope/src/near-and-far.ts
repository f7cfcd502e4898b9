import { TEXT_POSITION, within, type Segment } from "@longctx/core";

/** No method has moved its tokens yet. */
export function atTextPositions({ queryPosition, keyPosition }: Segment): boolean {
  return queryPosition.id === TEXT_POSITION.id && keyPosition.id === TEXT_POSITION.id;
}

/**
 * Splits segments at a window: tokens nearer than it keep their true distance, which is negative for tokens ahead of
 * their query; tokens farther away meet their query at other positions.
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
