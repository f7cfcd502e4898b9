import type { RingLayout } from "../method/method.ts";

/** Returns whether two rings are laid out alike, so that each token has the same slot in both. */
export function sameLayout(a: RingLayout, b: RingLayout): boolean {
  return (
    a.capacity === b.capacity &&
    a.pinned === b.pinned &&
    a.reach === b.reach &&
    a.near?.first === b.near?.first &&
    a.near?.last === b.near?.last &&
    a.near?.block === b.near?.block &&
    a.near?.blocks === b.near?.blocks &&
    a.near?.chunk === b.near?.chunk
  );
}
