import type { Activation } from "@longctx/core";

/** The two ways in which a `config.json` describes a mixture of experts. */
export type ExpertFields = "mixtral" | "qwen";

/** What transformers' config and model classes fix for a model type: the defaults of missing fields, and the architecture. */
export interface ModelFamily {
  readonly maxPositions: number;
  readonly epsilon: number;
  /** Null: the number of query heads. Only for a missing field; written as null it is the number of query heads too. */
  readonly keyHeads: number | null;
  /** Null: hidden size / query heads. */
  readonly headSize: number | null;
  readonly bos: number | null;
  readonly eos: number | null;
  readonly pad: number | null;
  /** Biases of query, key and value; "config": as `attention_bias` says, which then counts for the output too. */
  readonly queryKeyValueBias: boolean | "config";
  readonly feedForwardBias: boolean;
  readonly queryKeyNorm: boolean;
  /** "all": `sliding_window` bounds every layer ("used": with `use_sliding_window`); "some": then the layers of `layer_types`. */
  readonly sliding: "none" | "all" | "used" | "some";
  /** What a missing `sliding_window` means. */
  readonly slidingWindow: number | null;
  /** The base of the rotation where none is written. */
  readonly ropeBase: number;
  readonly activationField: "hidden_act" | "hidden_activation";
  readonly activation: Activation;
  readonly tiedEmbedding: boolean;
  /** Norms behind, scaled embeddings and scores, soft caps, windows in every second layer. */
  readonly gemma: boolean;
  /** How the fields of a mixture of experts are called. */
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
