import type { RingLayout } from "../../method/method.ts";

/** The layout of a ring as words of a uniform block, for kernels that find the slot of a token themselves. */
export const RING_UNIFORMS = {
  fields: "capacity: u32, pinned: u32",
  types: ["u32", "u32"],
  of: ({ capacity, pinned }: RingLayout): readonly number[] => [capacity, pinned],
} as const;

/** `ringSlot(token)` in WGSL, as `SlotMap.slotOf`: pinned tokens stay in their slots, later ones go round the others. */
export const RING_SLOT = `fn ringSlot(token: u32) -> u32 {
  let moving = max(uniforms.capacity - uniforms.pinned, 1u);
  return select(uniforms.pinned + (token - uniforms.pinned) % moving, token, token < uniforms.pinned);
}
`;
