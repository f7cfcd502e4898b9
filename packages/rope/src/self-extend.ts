import { defineMethod, type PositionRule } from "@longctx/core";
import { nearAndFar } from "./near-and-far.ts";

/**
 * Self-Extend: beyond the neighbour window W, G tokens in a row share a position, so that a text of (T − W) · G + W
 * tokens has only distances within the trained window T. Jin et al.: "LLM Maybe LongLM: Self-Extend LLM Context Window
 * Without Tuning", 2024 (arXiv:2401.01325), section 3: g = ⌊m/G⌋ − ⌊n/G⌋ + W − ⌊W/G⌋.
 * `window` is W and `group` is G, both in tokens, at least 1.
 * @throws LongctxError "method"
 */
export const selfExtend = defineMethod({
  name: "self-extend",
  axes: ["distance"],
  summary: "Tokens beyond the window share positions in groups.",
  definition: "g = m − n where m − n < window, ⌊m/group⌋ − ⌊n/group⌋ + window − ⌊window/group⌋ beyond",
  paper: "Jin et al. 2024, arXiv:2401.01325, section 3",
  deviations:
    "Division rounds down everywhere, as in the paper; most prefill paths of the authors' code divide without rounding, so that prompt and generation disagree where G does not divide W. llama.cpp's self-extend is another algorithm, which rewrites cached positions and loses its neighbour window every W tokens. A checkpoint's own sliding window is off. Tokens ahead of their query (prefix) keep their distance.",
  parameters: {
    window: {
      about: "distances up to here are true, W; W + (N − W)/G is best kept below a half to two thirds of T",
      unit: "tokens",
      default: null,
      example: 1024,
      min: 1,
      integer: true,
    },
    group: {
      about: "tokens that share a position beyond the window, G",
      unit: "tokens",
      default: null,
      example: 8,
      min: 1,
      integer: true,
    },
  },
  create: ({ window, group }) => {
    const offset = window - Math.floor(window / group);
    const queryPosition: PositionRule = {
      id: `floor(m/${group})+${offset}`,
      at: (m) => Math.floor(m / group) + offset,
    };
    const keyPosition: PositionRule = { id: `floor(m/${group})`, at: (n) => Math.floor(n / group) };
    return {
      disablesSlidingWindow: true,
      segments: (segments) => nearAndFar(segments, window, { queryPosition, keyPosition }),
    };
  },
});
