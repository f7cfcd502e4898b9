import { angles, turnRows, type Angles, type Rotation } from "../../positions/rotation.ts";
import type { CpuState } from "./cpu-state.ts";

/**
 * Writes a chunk's keys into the copies under some rotations, and its values, before anything attends: choices may be made
 * among them. `projected` is q, k and v of each row side by side, [T, (H + 2K) · D]; `turned` keeps angles for other layers.
 */
export function storeChunk(
  state: CpuState,
  layer: number,
  rotations: readonly Rotation[],
  { first, count, projected }: { readonly first: number; readonly count: number; readonly projected: Float32Array },
  turned: Map<string, Angles | null>,
): void {
  const { queryHeads, keyHeads, headSize } = state.backend.config;
  const { slots, copies, values } = state.layers[layer];
  const stride = (queryHeads + 2 * keyHeads) * headSize;
  const slot = slots.slotOf(first);
  const tokens = Array.from({ length: count }, (_, row) => first + row);
  const column = (head: number, to: Float32Array) => {
    for (let row = 0; row < count; row++) {
      const from = row * stride + head * headSize;
      to.set(projected.subarray(from, from + headSize), row * headSize);
    }
  };
  const keys = new Float32Array(count * headSize);
  for (let head = 0; head < keyHeads; head++) {
    column(queryHeads + head, keys);
    for (const by of rotations) {
      if (!turned.has(by.id)) turned.set(by.id, by.identity ? null : angles(by, tokens, count));
      turnRows(keys, copies.get(by.id)!.buffer.place(head, slot, slot + count), headSize, turned.get(by.id)!);
    }
    column(queryHeads + keyHeads + head, values.place(head, slot, slot + count));
  }
}
