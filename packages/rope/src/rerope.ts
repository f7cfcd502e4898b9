import { constantPosition, defineMethod } from "@longctx/core";
import { checkLogn, lognTemperature } from "./logn.ts";
import { nearAndFar } from "./near-and-far.ts";

/**
 * ReRoPE: distances beyond the window w count as w, so that no distance exceeds those of training. Su Jianlin:
 * "Rectified Rotary Position Embeddings", 2023 (kexue.fm/archives/9708): g(t) = min(t, w), optionally with log-n
 * scaling of the scores (kexue.fm/archives/8823) beyond the trained window T.
 * `window` is w, in tokens, at least 1; `logn` is 0 or 1.
 * @throws LongctxError "method"
 */
export const rerope = defineMethod({
  name: "rerope",
  axes: ["distance", { axis: "temperature", when: "logn=1", claims: ({ logn }) => logn === 1 }],
  summary: "Distances beyond the window count as the window.",
  definition: "g(m, n) = min(m − n, window); with logn=1, τ(m) = max(1, ln(m+1) / ln T)",
  paper: "Su 2023, kexue.fm/archives/9708",
  deviations:
    "One softmax over a near and a far band instead of two score matrices of which each entry is chosen; the numbers are the same. logn is off unless asked for, and takes T from the model instead of a constant of 4096. Tokens ahead of their query (prefix) keep their distance.",
  parameters: {
    window: {
      about: "largest distance, w; a quarter to a half of the trained window is usual",
      unit: "tokens",
      default: null,
      example: 1024,
      min: 1,
      integer: true,
    },
    logn: { about: "multiply the scores of query m by max(1, ln(m+1) / ln T)", unit: "flag", default: 0 },
  },
  create: ({ window, logn }) => {
    const far = { queryPosition: constantPosition(window), keyPosition: constantPosition(0) };
    return {
      segments: (segments) => nearAndFar(segments, window, far),
      ...(logn === 1 ? { check: checkLogn, temperature: lognTemperature } : {}),
    };
  },
});
