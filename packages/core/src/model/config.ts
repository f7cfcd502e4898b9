/** The rotary position embedding a checkpoint was trained with; the names are those of Hugging Face's `rope_parameters`. */
export interface RopeConfig {
  readonly type: RopeType;
  /** Base b of θ_i = b^(−2i/d), above 1. */
  readonly base: number;
  /** Channels of a head that are rotated, d; even, at most the head size. */
  readonly rotarySize: number;
  /** s, the extended window over the trained one, T. */
  readonly factor?: number;
  /** T, tokens: the window before the checkpoint's own extension. */
  readonly originalMaxPositions?: number;
  /** Replaces the formula of the attention factor (yarn, longrope). */
  readonly attentionFactor?: number;
  readonly betaFast?: number;
  readonly betaSlow?: number;
  readonly mscale?: number;
  readonly mscaleAllDim?: number;
  /** yarn: round the ramp's corners to whole dimensions; true unless given. */
  readonly truncate?: boolean;
  readonly lowFreqFactor?: number;
  readonly highFreqFactor?: number;
  /** longrope: divisors of θ_i in texts of at most T tokens and in longer ones, d/2 each. */
  readonly shortFactors?: readonly number[];
  readonly longFactors?: readonly number[];
  /** GGUF's `rope_freqs`: divisors of θ_i at every length, d/2. */
  readonly frequencyDivisors?: readonly number[];
}

export const ROPE_TYPES = ["default", "linear", "dynamic", "yarn", "longrope", "llama3"] as const;
export type RopeType = (typeof ROPE_TYPES)[number];

export const ACTIVATIONS = ["silu", "gelu", "gelu-tanh"] as const;
export type Activation = (typeof ACTIVATIONS)[number];

/** Networks of which a token goes through a few; a router, softmax(W x) over all of them, says which (Mixtral, Qwen3-MoE). */
export interface ExpertsConfig {
  readonly count: number;
  /** The likeliest k. */
  readonly perToken: number;
  /** Inner channels of one expert. */
  readonly feedForwardSize: number;
  /** Are the probabilities of the chosen k divided by their sum? */
  readonly renormalise: boolean;
}

/**
 * A decoder, described. Loaders make one from `config.json` or from GGUF metadata; the backends read nothing else.
 * Letters used everywhere: T tokens, H query heads, K key heads, D head size, L layers, V vocabulary.
 */
export interface ModelConfig {
  /** Hugging Face's `model_type`, or GGUF's `general.architecture`. */
  readonly modelType: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layerCount: number;
  readonly queryHeads: number;
  readonly keyHeads: number;
  readonly headSize: number;
  readonly feedForwardSize: number;
  readonly norm: { readonly kind: "rms"; readonly epsilon: number };
  /** down(activation(gate x) · up x). */
  readonly feedForward: "gated";
  /** Where every layer has a mixture of such networks in place of one. */
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
  /** RMS norm of what attention and the feed-forward network add to the residual stream (Gemma 2). */
  readonly postNorms?: boolean;
  /** What embeddings are multiplied by, 1 unless given (Gemma: √hidden). */
  readonly embeddingScale?: number;
  /** What scores are multiplied by, 1/√D unless given. */
  readonly attentionScale?: number;
  /** RMS norm over each head of q and k before the rotation (Qwen3). */
  readonly queryKeyNorm: boolean;
  readonly tiedEmbedding: boolean;
  /** c: logits become c · tanh(logit / c) (Gemma 2). */
  readonly logitSoftCap?: number;
  /** c: scores become c · tanh(score / c), after the temperature and before the softmax (Gemma 2). */
  readonly attentionSoftCap?: number;
  /** Per layer: how many tokens a query sees, itself included; null for all. */
  readonly slidingWindows: readonly (number | null)[];
  /** `max_position_embeddings`, or GGUF's context length. */
  readonly maxPositions: number;
  /** T of the methods: what the model was trained for, before its own extension. */
  readonly trainedWindow: number;
  readonly specialTokens: {
    readonly bos: number | null;
    readonly eos: readonly number[];
    readonly pad: number | null;
  };
}

/** What scores are multiplied by. */
export function attentionScaleOf({
  attentionScale,
  headSize,
}: Pick<ModelConfig, "attentionScale" | "headSize">): number {
  return attentionScale ?? 1 / Math.sqrt(headSize);
}

/** The trained window T: `original_max_position_embeddings`, else the context length; rope type dynamic always takes the latter. */
export function trainedWindowOf(rope: RopeConfig, maxPositions: number): number {
  return rope.type === "dynamic" ? maxPositions : (rope.originalMaxPositions ?? maxPositions);
}
