import {
  among,
  askedBy,
  defineMethod,
  LongctxError,
  oncePerModel,
  type MemoryBranch,
  type ModelContext,
} from "@longctx/core";

/**
 * Infini-attention: attention is causal within the query's own segment of the text, and earlier segments are read from
 * a compressive memory of constant size; a learned gate for each query head mixes the two. Munkhdalai, Faruqui, Gopal:
 * "Leave No Context Behind: Efficient Infinite Context Transformers with Infini-attention", 2024 (arXiv:2404.07143),
 * section 2.1, eq. 7 to 10.
 * `segment` is in tokens, at least 1; `update` is "linear" or "delta"; `beta` replaces the checkpoint's gates.
 * @throws LongctxError "method"
 */
export const infini = defineMethod({
  name: "infini",
  axes: ["visibility", "memory"],
  summary: "See the query's own segment of the text, and a compressive memory of all segments before it.",
  definition:
    "n visible where ⌊n/segment⌋ = ⌊m/segment⌋, at g = m − n; out = σ(β)·A + (1 − σ(β))·local, A = φ(q)M / (φ(q)z) of the segments before (φ = ELU + 1); then M += φ(K)ᵀV, or with update=delta M += φ(K)ᵀ(V − φ(K)M/(φ(K)z)), and z += Σ φ(K)",
  paper: "Munkhdalai, Faruqui, Gopal 2024, arXiv:2404.07143, section 2.1, eq. 7-10",
  deviations:
    "The paper does not say what the first segment reads: nothing written, or a denominator of 0, reads zeros here, and the gate still applies. The memory's queries and keys are those behind any norm and before the rotation; no 1/√D, temperature or amplitude touches them. Segments are cut at multiples of segment, counted from the text's beginning, whatever the chunks are. Positions go on from segment to segment, which changes no distance; under a method that counts distances by groups or chunks of the text (self-extend, dual-chunk) segments are alike where segment is a multiple of those. Gates come from the checkpoint (`self_attn.infini_gate`, one a query head, before the sigmoid) unless beta is given; on a model that was not trained with the memory its answers mean nothing.",
  parameters: {
    segment: {
      about: "tokens of a segment of the text, written to the memory at once; 2048 in the paper",
      unit: "tokens",
      default: null,
      example: 2048,
      min: 1,
      integer: true,
    },
    update: {
      about: "how a segment is written: added (linear), or what the memory already answers subtracted first (delta)",
      unit: "choice",
      choices: ["linear", "delta"],
      default: "linear",
    },
    beta: {
      about: "gate of every head before the sigmoid; large values read the memory alone",
      unit: "number",
      default: "the checkpoint's gates",
      example: 0,
      min: -1000,
      max: 1000,
    },
  },
  create: ({ segment: size, update, beta }) => {
    const branchOf = oncePerModel(({ config, learned }): MemoryBranch => {
      const gates = Array.from({ length: config.layerCount }, (_, layer) =>
        beta === undefined
          ? gatesOf(learned, layer, config.queryHeads)
          : new Float32Array(config.queryHeads).fill(beta),
      );
      return { segment: size, update, gates };
    });
    return {
      check: (context) => void branchOf(context),
      memory: branchOf, // the memory of eq. 7 to 10, which the backend computes
      // Each stretch of `size` tokens of the text gets causal attention of its own. Infini-attention's paper lets positions
      // begin at 0 in each; positions of the whole text have the same differences, and ReRoPE and its kin act on them.
      segments: (segments, { first, count }) => {
        const numbers = Array.from(
          { length: Math.floor((first + count - 1) / size) - Math.floor(first / size) + 1 },
          (_, i) => Math.floor(first / size) + i,
        );
        return segments.flatMap((segment) =>
          numbers.flatMap((number) => {
            const own = { from: number * size, to: (number + 1) * size };
            const local = among(segment, own);
            const asked = local && askedBy(local, own);
            return asked ? [asked] : [];
          }),
        );
      },
      span: size,
      // The ring holds one segment of the text and one chunk, because a segment is written to the memory when the first
      // token after it is read. The capacity is a multiple of the chunk so that no chunk wraps around the ring; `reach`
      // is 0 because older tokens are never read again.
      layout: ({ chunk }) => ({ capacity: chunk * Math.ceil((size + chunk) / chunk), pinned: 0, reach: 0 }),
    };
  },
});

/**
 * Returns a layer's gates before the sigmoid, [H].
 * @throws LongctxError "method" where the checkpoint has no gates for it
 */
function gatesOf(learned: ModelContext["learned"], layer: number, heads: number): Float32Array {
  const gates = learned?.get(`layers.${layer}.method.infini_gate`);
  if (gates?.length === heads) return gates;
  throw new LongctxError(
    "method",
    gates
      ? `infini: the checkpoint has ${gates.length} gates in layer ${layer}, but the model has ${heads} query heads; use the checkpoint that the gates were trained with, or give beta.`
      : learned
        ? `infini: the checkpoint has no gates of layer ${layer} (self_attn.infini_gate); use a checkpoint that was trained with Infini-attention, or give beta (the gate before the sigmoid, for all heads).`
        : "infini: gates come from a checkpoint, and none is known here; give beta (the gate before the sigmoid, for all heads).",
  );
}
