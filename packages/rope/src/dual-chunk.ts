import {
  ChosenRows,
  among,
  askedBy,
  constantPosition,
  defineMethod,
  intersect,
  LongctxError,
  type ChunkContext,
  type PositionRule,
  type Segment,
  type Interval,
} from "@longctx/core";
import { atTextPositions } from "./near-and-far.ts";

/**
 * Dual Chunk Attention (DCA): key positions restart in every chunk of s tokens, and a query has one position for the
 * keys of its own chunk, one for those of the chunk before, and one for those of all older chunks. An et al.:
 * "Training-Free Long-Context Scaling of Large Language Models", 2024 (arXiv:2402.17463), section 3: keys at n mod s,
 * queries at m mod s, min(m mod s + s, c − 1) and c − 1.
 * `chunk` is s, in tokens; `cap` is c, in tokens, at least s: all positions are below c.
 * @throws LongctxError "method" when cap is below chunk
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
    const forChunkBefore: PositionRule = {
      id: `min(m%${size}+${size},${cap - 1})`,
      at: (m) => Math.min((m % size) + size, cap - 1),
    };
    const forOlderChunks = constantPosition(cap - 1);
    /**
     * Returns the segments for queries of the chunk [begin, begin + s): its own tokens, the chunk before, older and
     * later chunks.
     */
    const seenBy = (begin: number, segment: Segment): (Segment | null)[] => {
      const placed = (queryPosition: PositionRule, tokens: Interval) =>
        narrowed({ ...segment, queryPosition, keyPosition }, tokens);
      return [
        placed(keyPosition, { from: begin, to: begin + size }),
        placed(forChunkBefore, { from: begin - size, to: begin }),
        placed(forOlderChunks, { from: 0, to: begin - size }),
        // Prefix attention may show a query tokens of later chunks, which keep their true distance.
        segment.band.from < 0 ? among(segment, { from: begin + size, to: Infinity }) : null,
      ];
    };
    return {
      disablesSlidingWindow: true,
      segments: (segments, queries) =>
        segments
          .flatMap((segment) =>
            atTextPositions(segment)
              ? chunksOf(queries, size).flatMap((begin) => {
                  const ofChunk = askedBy(segment, { from: begin, to: begin + size });
                  return ofChunk ? seenBy(begin, ofChunk) : [];
                })
              : [segment],
          )
          .filter((segment) => segment !== null),
    };
  },
});

/** Returns the first token of each chunk of `size` tokens that contains one of the queries. */
function chunksOf({ first, count }: ChunkContext, size: number): number[] {
  const begin = first - (first % size);
  return Array.from({ length: Math.ceil((first + count - begin) / size) }, (_, i) => begin + i * size);
}

/**
 * Narrows a segment to tokens of a range. Unlike `among` it keeps a segment whose range is empty, so that the plans of
 * the first chunks have as many segments as those of later chunks.
 */
function narrowed(segment: Segment, range: Interval): Segment | null {
  const { tokens } = segment;
  return tokens instanceof Int32Array || tokens instanceof ChosenRows || "choice" in tokens
    ? among(segment, range)
    : { ...segment, tokens: intersect(tokens, range) };
}
