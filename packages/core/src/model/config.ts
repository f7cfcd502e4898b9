/**
 * The rotary position embedding (RoPE) that a checkpoint was trained with; the fields are those of Hugging Face's
 * `rope_parameters`.
 */
export interface RopeConfig {
  readonly type: RopeType;
  /** The base b of the rotary frequencies θ_i = b^(−2i/d), above 1. */
  readonly base: number;
  /** d, the number of channels of a head that are rotated: even, and at most the head size. */
  readonly rotarySize: number;
  /** The scaling factor s of the checkpoint's RoPE type: the extended window divided by the trained window T. */
  readonly factor?: number;
  /**
   * The trained window T in tokens, before the checkpoint's own context extension (`original_max_position_embeddings`).
   */
  readonly originalMaxPositions?: number;
  /** The factor on cos and sin, given in place of the formula that RoPE type yarn or longrope has for it. */
  readonly attentionFactor?: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly mscale?: number;
  readonly mscaleAllDim?: number;
  /**
   * RoPE type yarn: whether the ends of the interpolation ramp are rounded to whole rotary pairs; true unless given.
   */
  readonly truncate?: boolean;
  readonly lowFreqFactor?: number;
  readonly highFreqFactor?: number;
  /**
   * RoPE type longrope: divisors [d/2] of the frequencies θ_i, the short list for texts of at most T tokens, the long
   * list for longer texts.
   */
  readonly shortFactors?: readonly number[];
  readonly longFactors?: readonly number[];
  /** Divisors [d/2] of the frequencies θ_i at every text length, from GGUF's tensor `rope_freqs`. */
  readonly frequencyDivisors?: readonly number[];
}

/** The RoPE types of checkpoints that longctx computes, under Hugging Face's names. */
export const ROPE_TYPES = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"] as const;
export type RopeType = (typeof ROPE_TYPES)[number];

/** The activation functions of the feed-forward network that longctx computes. */
export const ACTIVATIONS = ["silu", "gelu", "gelu-tanh"] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/**
 * A mixture of experts in place of each layer's feed-forward network (Mixtral, Qwen3-MoE): a router, softmax(W x) over
 * all experts, sends each token to the k experts of highest probability.
 */
export interface ExpertsConfig {
  readonly count: number;
  /** k, the number of experts that compute a token: those with the highest router probabilities. */
  readonly perToken: number;
  /** Hidden channels of one expert's feed-forward network. */
  readonly feedForwardSize: number;
  /** Whether the router probabilities of the k chosen experts are divided by their sum. */
  readonly renormalise: boolean;
}

/**
 * The description of a decoder, which loaders make from `config.json` or GGUF metadata; backends take a model's
 * structure from it alone. Letters of shapes: [T, ...] tokens of a chunk, H query heads, K key heads, D head size, L layers, V vocabulary.
 */
export interface ModelConfig {
  /** The architecture's name: `model_type` of Hugging Face or `general.architecture` of GGUF. */
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly queryHeads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  readonly feedForwardSize: number;
  readonly norm: { readonly kind: "rms"; readonly epsilon: number };
  /** The feed-forward network computes down(activation(gate x) · up x), the gated form (SwiGLU, GeGLU). */
  readonly feedForward: "gated";
  /** The mixture of experts that every layer has in place of one feed-forward network; absent in dense models. */
  readonly experts?: ExpertsConfig;
  readonly activation: Activation;
  readonly position: "rope";
  readonly rope: RopeConfig;
  readonly bias: {
    readonly query: boolean;
    readonly key: boolean;
    readonly value: boolean;
    readonly output: boolean;
    readonly feedForward: boolean;
  };
  /**
   * Whether the outputs of attention and of the feed-forward network pass an RMS norm before they are added to the
   * residual stream (Gemma 2).
   */
  readonly postNorms?: boolean;
  /** The factor on token embeddings, 1 unless given (Gemma has √hidden). */
  readonly embeddingScale?: number;
  /** The factor on attention scores q · k, 1/√D unless given. */
  readonly attentionScale?: number;
  /** Whether each head of queries and keys passes an RMS norm before the rotation (Qwen3). */
  readonly queryKeyNorm: boolean;
  readonly tiedEmbedding: boolean;
  /** The soft cap c on logits: a logit becomes c · tanh(logit / c) (Gemma 2). */
  readonly logitSoftCap?: number;
  /**
   * The soft cap c on attention scores: a score becomes c · tanh(score / c), after the temperature and before the
   * softmax (Gemma 2).
   */
  readonly attentionSoftCap?: number;
  /** The sliding window of each layer: how many tokens a query sees, its own included; null for full attention. */
  readonly slidingWindows: readonly (number | null)[];
  /** The context length in tokens that the checkpoint names: `max_position_embeddings`, or GGUF's context length. */
  readonly maxPositions: number;
  /**
   * The trained window T in tokens that methods extend: the window of training before the checkpoint's own extension.
   */
  readonly trainedWindow: number;
  readonly specialTokens: {
    readonly bos: number | null;
    readonly eos: readonly number[];
    readonly pad: number | null;
  };
}

/** Returns the factor on attention scores q · k: the config's, else 1/√D. */
export function attentionScaleOf({
  attentionScale,
  headSize,
}: Pick<ModelConfig, "attentionScale" | "headSize">): number {
  return attentionScale ?? 1 / Math.sqrt(headSize);
}

/**
 * Returns the trained window T in tokens: `original_max_position_embeddings` where the config has it, else the context
 * length. RoPE type dynamic always has the context length.
 */
export function trainedWindowOf(rope: RopeConfig, maxPositions: number): number {
  return rope.type === "dynamic" ? maxPositions : (rope.originalMaxPositions ?? maxPositions);
}
