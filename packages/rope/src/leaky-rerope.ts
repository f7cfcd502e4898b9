import { defineMethod, type PositionRule } from "@longctx/core";
import { checkLogn, lognTemperature } from "./logn.ts";
import { nearAndFar } from "./near-and-far.ts";

/**
 * Leaky ReRoPE: beyond the window w the distance grows by 1/k a token instead of by 1, so that a model still tells far
 * tokens apart. Su Jianlin: "Rectified Rotary Position Embeddings" and "Inverse use of Leaky ReRoPE", 2023
 * (kexue.fm/archives/9708 and 9728): g(t) = t for t < w, and w + (t − w)/k for t ≥ w.
 * `window` is w, in tokens, at least 1; `factor` is k, a ratio of at least 1; `logn` is 0 or 1 and adds log-n scaling.
 * @throws LongctxError "method"
 */
export const leakyRerope = defineMethod({
  name: "leaky-rerope",
  axes: ["distance", { axis: "temperature", when: "logn=1", claims: ({ logn }) => logn === 1 }],
  summary: "Distances beyond the window grow more slowly.",
  definition:
    "t = m − n; g = t where t < window, window + (t − window)/factor beyond; with logn=1, τ(m) = max(1, ln(m+1) / ln T)",
  paper: "Su 2023, kexue.fm/archives/9708 and 9728",
  deviations:
    "Positions beyond the window are real numbers instead of a second frequency table, which is the same angle under every frequency method. One softmax over a near and a far band instead of two score matrices of which each entry is chosen. logn is off unless asked for, and takes T from the model instead of a constant of 4096. Tokens ahead of their query (prefix) keep their distance.",
  parameters: {
    window: {
      about: "distances up to here are true, w",
      unit: "tokens",
      default: null,
      example: 1024,
      min: 1,
      integer: true,
    },
    factor: {
      about: "tokens a step of distance takes beyond the window, k; w + (N − w)/k is best kept below half of T",
      unit: "ratio",
      default: null,
      example: 8,
      min: 1,
    },
    logn: { about: "multiply the scores of query m by max(1, ln(m+1) / ln T)", unit: "flag", default: 0 },
  },
  create: ({ window, factor, logn }) => {
    // The distance is g = (m − n)/k + w − w/k; the constant w − w/k is added to query positions, so that key positions
    // stay fixed.
    const offset = window * (1 - 1 / factor);
    const queryPosition: PositionRule = { id: `m/${factor}+${offset}`, at: (m) => m / factor + offset };
    const keyPosition: PositionRule = { id: `m/${factor}`, at: (n) => n / factor };
    return {
      segments: (segments) => nearAndFar(segments, window, { queryPosition, keyPosition }),
      ...(logn === 1 ? { check: checkLogn, temperature: lognTemperature } : {}),
    };
  },
});
