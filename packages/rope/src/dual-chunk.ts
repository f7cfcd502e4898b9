import {
  among,
  askedBy,
  constantPosition,
  defineMethod,
  intersect,
  LongctxError,
  type ChunkContext,
  type PositionRule,
  type Segment,
  type TokenRange,
} from "@longctx/core";
import { atTextPositions } from "./near-and-far.ts";

/**
 * Dual Chunk Attention: positions restart in every chunk of s tokens, and a query meets its own chunk, the one before
 * and all older ones from three positions, none above c − 1. An et al., "Training-Free Long-Context Scaling of Large
 * Language Models", 2024 (arXiv:2402.17463), section 3: keys at n mod s; queries at m mod s for their own chunk, min(m
 * mod s + s, c − 1) for the one before, c − 1 for older ones.
 * `chunk` tokens in a chunk, positions below `cap` (at least `chunk`). @throws LongctxError "method"
 */
export const dualChunk = defineMethod({
  name: "dual-chunk",
  axes: ["distance"],
  summary: "Positions restart in every chunk; a query moves to meet older ones.",
  definition:
    "keys at n mod chunk; queries at m mod chunk for their own chunk, at min(m mod chunk + chunk, cap − 1) for the one before, at cap − 1 for older ones",
  paper: "An et al. 2024, arXiv:2402.17463, section 3",
  deviations:
    "One softmax over the three kinds of chunks instead of three attentions merged afterwards. chunk and cap are the paper's s and c, of which s is three quarters of T and c is T; the authors' code takes 11/16 and 3/4 of T, and meets the chunk before and older ones from at most c instead of c − 1. A checkpoint's own sliding window is off. Tokens ahead of their query (prefix) keep their distance.",
  parameters: {
    chunk: { about: "tokens in a chunk, s", unit: "tokens", default: null, example: 3072, min: 1, integer: true },
    cap: {
      about:
        "positions lie below this, c; at least chunk, and T in the paper, beyond which distances were never trained",
      unit: "tokens",
      default: null,
      example: 4096,
      min: 1,
      integer: true,
    },
  },
  create: ({ chunk: size, cap }) => {
    if (cap < size)
      throw new LongctxError(
        "method",
        `dual-chunk: cap is ${cap}, but positions within a chunk of ${size} tokens go up to ${size - 1}; give a cap of at least ${size}, or a smaller chunk.`,
      );
    const keyPosition: PositionRule = { id: `m%${size}`, at: (n) => n % size };
    const before: PositionRule = {
      id: `min(m%${size}+${size},${cap - 1})`,
      at: (m) => Math.min((m % size) + size, cap - 1),
    };
    const older = constantPosition(cap - 1);
    /** What the queries of a chunk that begins with a token see of a segment. */
    const seenFrom = (begin: number, segment: Segment): (Segment | null)[] => {
      const placed = (queryPosition: PositionRule, tokens: TokenRange) =>
        some({ ...segment, queryPosition, keyPosition }, tokens);
      return [
        placed(keyPosition, { from: begin, to: begin + size }),
        placed(before, { from: begin - size, to: begin }),
        placed(older, { from: 0, to: begin - size }),
        segment.band.from < 0 ? among(segment, { from: begin + size, to: Infinity }) : null,
      ];
    };
    return {
      disablesSlidingWindow: true,
      segments: (segments, asking) =>
        segments
          .flatMap((segment) =>
            atTextPositions(segment)
              ? chunksOf(asking, size).flatMap((begin) => {
                  const asked = askedBy(segment, { from: begin, to: begin + size });
                  return asked ? seenFrom(begin, asked) : [];
                })
              : [segment],
          )
          .filter((segment) => segment !== null),
    };
  },
});

/** The first tokens of the chunks that the queries are in. */
function chunksOf({ first, count }: ChunkContext, size: number): number[] {
  const begin = first - (first % size);
  return Array.from({ length: Math.ceil((first + count - begin) / size) }, (_, i) => begin + i * size);
}

/** Ranges stay where they are empty, so that the first chunks have a plan of the same shape as those that follow. */
function some(segment: Segment, range: TokenRange): Segment | null {
  return segment.tokens instanceof Int32Array
    ? among(segment, range)
    : { ...segment, tokens: intersect(segment.tokens, range) };
}
