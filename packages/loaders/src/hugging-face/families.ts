import type { Activation } from "@longctx/core";

/** The two ways in which a `config.json` describes a mixture of experts. */
export type ExpertFields = "mixtral" | "qwen";

/**
 * What transformers' classes fix for a model type: the defaults of missing fields of config.json, and the architecture.
 */
export interface ModelFamily {
  readonly maxPositions: number;
  readonly epsilon: number;
  /**
   * The default of a missing `num_key_value_heads`; null means the number of query heads, as does a field written as
   * null.
   */
  readonly keyHeads: number | null;
  /** The default of a missing `head_dim`; null means hidden size / query heads. */
  readonly headSize: number | null;
  readonly bos: number | null;
  readonly eos: number | null;
  readonly pad: number | null;
  /** Whether query, key and value have biases; with "config" the field `attention_bias` decides, for the output too. */
  readonly queryKeyValueBias: boolean | "config";
  readonly feedForwardBias: boolean;
  readonly queryKeyNorm: boolean;
  /**
   * Which layers `sliding_window` bounds: with "all" every layer, with "used" every layer if `use_sliding_window` is
   * true, with "some" the layers that `layer_types` names.
   */
  readonly sliding: "none" | "all" | "used" | "some";
  /** The default of a missing `sliding_window`, in tokens; null means full attention. */
  readonly slidingWindow: number | null;
  /** The default of a missing `rope_theta`. */
  readonly ropeBase: number;
  readonly activationField: "hidden_act" | "hidden_activation";
  readonly activation: Activation;
  readonly tiedEmbedding: boolean;
  /** Whether the model has Gemma 2's norms after each block, scales, soft caps, and windows in every second layer. */
  readonly gemma: boolean;
  /** The names of the fields that describe a mixture of experts; null for a dense model. */
  readonly experts: ExpertFields | null;
}

// Sources: transformers' configuration_*.py and modeling_*.py of each type, 5.x.
const PLAIN = {
  keyHeads: null,
  headSize: null,
  epsilon: 1e-6,
  queryKeyValueBias: false,
  feedForwardBias: false,
  queryKeyNorm: false,
  ropeBase: 10_000,
  activationField: "hidden_act",
  activation: "silu",
  tiedEmbedding: false,
  gemma: false,
  experts: null,
} as const;
const QWEN = {
  ...PLAIN,
  maxPositions: 32_768,
  keyHeads: 32,
  bos: null,
  eos: null,
  pad: null,
  sliding: "some",
  slidingWindow: 4096,
} as const;
export const FAMILIES: Readonly<Record<string, ModelFamily>> = {
  llama: {
    ...PLAIN,
    maxPositions: 2048,
    bos: 1,
    eos: 2,
    pad: null,
    queryKeyValueBias: "config",
    feedForwardBias: true,
    sliding: "none",
    slidingWindow: null,
  },
  mistral: {
    ...PLAIN,
    maxPositions: 131_072,
    keyHeads: 8,
    bos: 1,
    eos: 2,
    pad: null,
    sliding: "all",
    slidingWindow: 4096,
  },
  qwen2: { ...QWEN, queryKeyValueBias: true },
  qwen3: { ...QWEN, headSize: 128, queryKeyValueBias: "config", queryKeyNorm: true },
  mixtral: {
    ...PLAIN,
    maxPositions: 131_072,
    epsilon: 1e-5,
    keyHeads: 8,
    bos: 1,
    eos: 2,
    pad: null,
    sliding: "all",
    slidingWindow: null,
    ropeBase: 1_000_000,
    experts: "mixtral",
  },
  qwen3_moe: {
    ...QWEN,
    keyHeads: 4,
    queryKeyValueBias: "config",
    queryKeyNorm: true,
    sliding: "used",
    experts: "qwen",
  },
  gemma2: {
    ...PLAIN,
    maxPositions: 8192,
    keyHeads: 4,
    headSize: 256,
    bos: 2,
    eos: 1,
    pad: 0,
    queryKeyValueBias: "config",
    sliding: "some",
    slidingWindow: 4096,
    activationField: "hidden_activation",
    activation: "gelu-tanh",
    tiedEmbedding: true,
    gemma: true,
  },
  phi3: {
    ...PLAIN,
    maxPositions: 4096,
    epsilon: 1e-5,
    bos: 1,
    eos: 32_000,
    pad: 32_000,
    sliding: "all",
    slidingWindow: null,
  },
};
