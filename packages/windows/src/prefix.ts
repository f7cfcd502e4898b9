import { askedBy, among, defineMethod, EVERYTHING } from "@longctx/core";

/**
 * Prefix attention (prefix LM): the first `length` tokens see each other in both directions, later tokens at a negative
 * distance, and all tokens after them are causal. Raffel et al.: "Exploring the Limits of Transfer Learning with a
 * Unified Text-to-Text Transformer", 2019 (arXiv:1910.10683), section 3.2.1.
 * `length` is in tokens, at least 0.
 * @throws LongctxError "method"
 */
export const prefix = defineMethod({
  name: "prefix",
  axes: ["visibility"],
  summary: "The first tokens see each other in both directions.",
  definition: "n visible where n ≤ m or m, n < length; g = m − n, below 0 where n is ahead",
  paper: "Raffel et al. 2019, arXiv:1910.10683, section 3.2.1",
  deviations:
    "For decoders that were trained with causal attention, so a measurement rather than an improvement. The prefix is read at once, whatever the chunk. A layer with a sliding window of its own keeps it backwards, and sees all of the prefix ahead.",
  parameters: {
    length: {
      about: "tokens of the prefix; the first call has to read all of them",
      unit: "tokens",
      default: null,
      example: 2048,
      min: 0,
      integer: true,
    },
  },
  create: ({ length }) => ({
    readAtOnce: length,
    segments: (segments) =>
      segments
        .flatMap((segment) => {
          const bidirectional = { ...segment, band: { from: -Infinity, to: segment.band.to } };
          const whole = among(bidirectional, { from: 0, to: length });
          return [
            whole && askedBy(whole, { from: 0, to: length }),
            askedBy(segment, { from: length, to: EVERYTHING.to }),
          ];
        })
        .filter((segment) => segment !== null),
  }),
});
