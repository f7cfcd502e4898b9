import type { AttentionMass } from "../state/attention-mass.ts";
import type { SharedMemory } from "../wasm/shared-memory.ts";
import type { Layout } from "./part-layout.ts";
import type { Stretch } from "./turned-blocks.ts";

/** The parts of a token that was attended to: the first ones of each key head are the stretches of its lanes. */
export interface AttendedParts {
  readonly stretches: readonly Stretch[];
  /** Parts of a key head. */
  readonly each: number;
  readonly layout: Layout;
}

/**
 * Adds the attention probabilities of the query `token` to the attention masses of the tokens it attends to, for those at a
 * distance below `band`.
 */
export function addPartMasses(
  memory: SharedMemory,
  { stretches, each, layout }: AttendedParts,
  { keyHeads, group }: { readonly keyHeads: number; readonly group: number },
  token: number,
  mass: AttentionMass,
  band: number,
): void {
  const count = keyHeads * each * group;
  const [sums, maxima] = [layout.sums, layout.maxima].map((address) => memory.floats({ address }, count));
  for (let keyHead = 0; keyHead < keyHeads; keyHead++)
    for (let head = 0; head < group; head++) {
      const at = (part: number) => (keyHead * each + part) * group + head;
      let largest = -Infinity;
      for (let part = 0; part < each; part++) largest = Math.max(largest, maxima[at(part)]);
      let total = 0;
      for (let part = 0; part < each; part++) total += sums[at(part)] * Math.exp(maxima[at(part)] - largest);
      stretches.forEach((stretch, part) => {
        const factor = Math.exp(maxima[at(part)] - largest) / total;
        const scores = memory.floats({ address: layout.scores + 4 * at(part) * layout.stride }, stretch.count);
        addStretch(mass, keyHead, stretch, scores, factor, token, band);
      });
    }
}

function addStretch(
  mass: AttentionMass,
  head: number,
  { lane, skipped, count }: Stretch,
  scores: Float32Array,
  factor: number,
  token: number,
  band: number,
): void {
  const { tokens } = lane;
  if (typeof tokens === "number") {
    const first = tokens + skipped;
    const from = Math.max(0, token - band + 1 - first);
    const to = Math.min(count, token + 1 - first);
    if (from < to) mass.add(first + from, head, scores.subarray(from, to), factor);
    return;
  }
  for (let i = 0; i < count; i++) {
    const distance = token - tokens[skipped + i];
    if (distance >= 0 && distance < band) mass.add(tokens[skipped + i], head, scores.subarray(i, i + 1), factor);
  }
}
