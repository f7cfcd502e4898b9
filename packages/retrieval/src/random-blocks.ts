import { defineMethod } from "@longctx/core";
import { atOneDistance, candidatesAt, groupsOf, inOrder, nearTokens, ofGroup } from "./block-segments.ts";
import { listedBlocks } from "./fixed-blocks.ts";
import { needsFullLayers } from "./layers.ts";

/**
 * Random blocks, a control: of older tokens a query sees as many blocks as `blocks` would take, chosen at random for each
 * group and layer. It shows what is found without retrieving anything.
 * `size`, `local`, `sinks` and `exec` are in tokens, `top` in blocks. @throws LongctxError "method"
 */
export const randomBlocks = defineMethod({
  name: "random-blocks",
  axes: ["visibility", "distance"],
  summary: "A control: see the first tokens, the last ones, and blocks between that are taken at random.",
  definition: "as blocks, with top candidates taken at random for each layer and group in place of the chosen ones",
  paper: "a control of this project",
  deviations: "none",
  parameters: {
    size: { about: "tokens of a block", unit: "tokens", default: 128, min: 1, integer: true },
    top: { about: "blocks that are taken; 0 for none", unit: "number", default: 16, min: 0, integer: true },
    local: {
      about: "last tokens that are always visible",
      unit: "tokens",
      default: null,
      example: 2048,
      min: 1,
      integer: true,
    },
    sinks: { about: "first tokens that stay visible", unit: "tokens", default: 4, min: 0, integer: true },
    positions: {
      about: "old tokens all at distance local − 1 (constant), or visible tokens one after another (ordered)",
      unit: "choice",
      choices: ["constant", "ordered"],
      default: "constant",
    },
    exec: {
      about: "tokens of a group, which is read at once",
      unit: "tokens",
      default: 512,
      min: 1,
      max: 16_384,
      integer: true,
    },
    seed: {
      about: "what the random choices derive from, beside group and layer",
      unit: "number",
      default: 0,
      min: 0,
      integer: true,
    },
  },
  create: (values) => {
    const { top, positions, exec, size, local, sinks, seed } = values;
    return {
      check: needsFullLayers("random-blocks"),
      segments: (segments, { first, count, layer, config }) => {
        if (config.slidingWindows[layer]) return [...segments];
        return groupsOf(first, count, exec).flatMap((group, _, groups) => {
          const candidates = candidatesAt(group.from, values);
          const taken = listedBlocks(sample(candidates, top, [seed, layer, group.from]), values);
          return segments.flatMap((segment) => {
            const seen = (positions === "constant" ? atOneDistance : inOrder)(segment, candidates, values, taken);
            return ofGroup(seen, group, groups.length === 1);
          });
        });
      },
      groupSize: exec,
      near: nearTokens(values, top),
      span: positions === "constant" ? local : sinks + (top + 1) * size + local + exec,
    };
  },
});

/** Returns `count` of the numbers [0, total), ascending: those whose hashes with `keys` are the smallest. */
function sample(total: number, count: number, keys: readonly number[]): number[] {
  const start = keys.reduce(mix, 0x9e3779b9);
  const hashes = Array.from({ length: total }, (_, number) => mix(start, number));
  const order = hashes.map((_, number) => number).sort((a, b) => hashes[a] - hashes[b] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** Mixes a number into a 32-bit hash (the finaliser of MurmurHash3). */
function mix(hash: number, number: number): number {
  let x = (hash ^ Math.imul(number + 1, 0xcc9e2d51)) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}
