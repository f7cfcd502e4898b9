import type { RingLayout } from "../../method/method.ts";
import { Rings } from "../../state/rings.ts";

/** The fewest blocks of old tokens that a layer's buffers have room for beside the near tokens. */
export const FEWEST_PLACES = 32;
/** How many times as many slots as near tokens and blocks need a ring has to have before its old tokens move out. */
const WORTHWHILE = 1.5;

/**
 * Returns how a layer's buffers of keys and values are laid out: as the ring is, or, where plans read old tokens in
 * blocks and the ring is much longer than what they read, as a shorter ring of near tokens. Both the pinned and the
 * moving slots are whole chunks, so that no chunk wraps around the end of the shorter ring.
 */
export function bufferLayout(ring: RingLayout): RingLayout {
  const { capacity, pinned, near } = ring;
  if (!near || pinned < capacity) return ring;
  const chunks = (tokens: number) => Math.ceil(tokens / near.chunk) * near.chunk;
  const kept = chunks(near.first);
  const slots = kept + chunks(near.last + near.chunk);
  if (capacity < WORTHWHILE * (slots + FEWEST_PLACES * near.block)) return ring;
  return { capacity: slots, pinned: kept, reach: near.last };
}

/** Returns the slots of the buffers of all layers: the rings themselves, where every layer's buffers are as long. */
export function bufferSlots(rings: Rings): Rings {
  const layouts = Array.from({ length: rings.layerCount }, (_, layer) => rings.at(layer).layout);
  const shorter = layouts.map(bufferLayout);
  return shorter.every((layout, layer) => layout === layouts[layer]) ? rings : Rings.of(shorter, rings.layerCount);
}
