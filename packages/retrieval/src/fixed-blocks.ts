import type { Interval } from "@longctx/core";
import type { BlockLayout, TakenBlocks } from "./block-segments.ts";

/** Returns blocks that are taken whatever the queries ask for, as lists of their tokens. */
export function listedBlocks(blocks: readonly number[], { size, sinks }: BlockLayout): TakenBlocks {
  return {
    count: blocks.length,
    tokens: ({ from, to }: Interval) =>
      Int32Array.from(blocks.slice(from, to).flatMap((block) => Array.from({ length: size }, (_, i) => sinks + block * size + i))), // prettier-ignore
  };
}

/** Returns a function to blocks [from, to), which makes equal ranges once, so that layers can share a plan. */
export function fixedBlocks(layout: BlockLayout): (from: number, to: number) => TakenBlocks {
  const made = new Map<string, TakenBlocks>();
  return (from, to) => {
    const key = `${from}/${to}`;
    const known = made.get(key) ?? remembered(listedBlocks(Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i), layout)); // prettier-ignore
    made.set(key, known);
    return known;
  };
}

/** Keeps the lists that were made, because plans count as equal only if they share the same lists. */
function remembered({ count, tokens }: TakenBlocks): TakenBlocks {
  const lists = new Map<string, ReturnType<typeof tokens>>();
  return {
    count,
    tokens: (ranks) => {
      const key = `${ranks.from}/${ranks.to}`;
      const known = lists.get(key) ?? tokens(ranks);
      lists.set(key, known);
      return known;
    },
  };
}
