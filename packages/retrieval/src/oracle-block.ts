import { defineMethod, LongctxError } from "@longctx/core";
import { atOneDistance, candidatesAt, groupsOf, inOrder, nearTokens, ofGroup } from "./block-segments.ts";
import { fixedBlocks } from "./fixed-blocks.ts";
import { needsFullLayers } from "./layers.ts";

/**
 * The oracle of block retrieval, a control: of older tokens a query sees the blocks that hold tokens [from, to) of the
 * text, where the needle is, and no others. It shows what a perfect choice would give.
 * All parameters but `positions` are in tokens. @throws LongctxError "method"
 */
export const oracleBlock = defineMethod({
  name: "oracle-block",
  axes: ["visibility", "distance"],
  summary: "A control: see the first tokens, the last ones, and the blocks of a place in the text.",
  definition:
    "as blocks, with the candidates among blocks ⌊(from − sinks)/size⌋ to ⌊(to − 1 − sinks)/size⌋ in place of the chosen ones",
  paper: "a control of this project",
  deviations: "none",
  parameters: {
    from: {
      about: "first token of the place; the needle app gives it",
      unit: "tokens",
      default: null,
      example: 1000,
      min: 0,
      integer: true,
    },
    to: { about: "token behind the place", unit: "tokens", default: null, example: 1100, min: 1, integer: true },
    size: { about: "tokens of a block", unit: "tokens", default: 128, min: 1, integer: true },
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
  },
  create: (values) => {
    const { from, to, size, local, sinks, positions, exec } = values;
    if (to <= from)
      throw new LongctxError("method", `oracle-block: the place goes from ${from} to ${to}; give a to above from.`);
    const fixed = fixedBlocks(values);
    const wanted = {
      from: Math.max(0, Math.floor((from - sinks) / size)),
      to: Math.floor((to - 1 - sinks) / size) + 1,
    };
    return {
      check: needsFullLayers("oracle-block"),
      segments: (segments, { first, count, layer, config }) => {
        if (config.slidingWindows[layer]) return [...segments];
        return groupsOf(first, count, exec).flatMap((group, _, groups) => {
          const candidates = candidatesAt(group.from, values);
          const taken = fixed(wanted.from, Math.min(wanted.to, candidates));
          return segments.flatMap((segment) => {
            const seen = (positions === "constant" ? atOneDistance : inOrder)(segment, candidates, values, taken);
            return ofGroup(seen, group, groups.length === 1);
          });
        });
      },
      groupSize: exec,
      near: nearTokens(values, wanted.to - wanted.from),
      span: positions === "constant" ? local : to - from + sinks + 3 * size + local + exec,
    };
  },
});
