import type { NearTokens, RingLayout } from "../../method/method.ts";
import { Rings } from "../../state/rings.ts";

/**
 * How many times as many blocks as a plan sees have places in a layer's buffers. Measured on a real model: of the blocks
 * that a generated token reads 6 % had to be fetched at 2 times as many, 1 % at 4 times, and no fewer at more.
 */
const PLACES_A_BLOCK = 4;
const FEWEST_PLACES = 8;
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
  if (capacity < WORTHWHILE * (slots + placesFor(near) * near.block)) return ring;
  return { capacity: slots, pinned: kept, reach: near.last };
}

/** Returns how many places for blocks of old tokens a layer's buffers have. */
export function placesFor({ blocks }: NearTokens): number {
  return Math.max(FEWEST_PLACES, PLACES_A_BLOCK * blocks);
}

/** Returns the slots of the buffers of all layers: the rings themselves, where every layer's buffers are as long. */
export function bufferSlots(rings: Rings): Rings {
  const layouts = Array.from({ length: rings.layerCount }, (_, layer) => rings.at(layer).layout);
  const shorter = layouts.map(bufferLayout);
  return shorter.every((layout, layer) => layout === layouts[layer]) ? rings : Rings.of(shorter, rings.layerCount);
}
