import { type Activation, listed, type ModelConfig, trainedWindowOf } from "@longctx/core";
import { Fields } from "./fields.ts";
import { type ExpertFields, expertsFromHuggingFace } from "./hf-experts.ts";
import { ropeFromHuggingFace } from "./hf-rope.ts";

const MAX_LAYERS = 4096;

/** What transformers' config and model classes fix for a model type: the defaults of missing fields, and the architecture. */
interface ModelFamily {
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
  /** How the fields of a mixture of experts are called. */
  readonly experts: ExpertFields | null;
}

// Sources: transformers' configuration_*.py and modeling_*.py of each type, 5.x. All of them leave the head untied by default.
const PLAIN = {
  keyHeads: null,
  headSize: null,
  epsilon: 1e-6,
  queryKeyValueBias: false,
  feedForwardBias: false,
  queryKeyNorm: false,
  ropeBase: 10_000,
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
const FAMILIES: Readonly<Record<string, ModelFamily>> = {
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

export const HUGGING_FACE_MODEL_TYPES: readonly string[] = Object.keys(FAMILIES);

const ACTIVATION_NAMES: Readonly<Record<string, Activation>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_python: "gelu",
  gelu_pytorch_tanh: "gelu-tanh",
  gelu_python_tanh: "gelu-tanh",
  gelu_new: "gelu-tanh",
  gelu_fast: "gelu-tanh",
};

/**
 * A Hugging Face `config.json` as a model's description, with transformers' own fallbacks.
 * `generation`, the content of `generation_config.json`, may name more tokens that end a text.
 * @throws LongctxError "config" naming the field, its value and what is possible
 */
export function configFromHuggingFace(
  json: Readonly<Record<string, unknown>>,
  place: string = "config.json",
  generation?: Readonly<Record<string, unknown>> | null,
): ModelConfig {
  const fields = new Fields(place, json);
  const modelType = fields.optionalText("model_type");
  if (modelType === undefined || !Object.hasOwn(FAMILIES, modelType))
    return fields.fail("model_type", `one that longctx has: ${listed(HUGGING_FACE_MODEL_TYPES)}`);
  const family = FAMILIES[modelType];
  const quantisation = fields.nested("quantization_config");
  if (quantisation)
    quantisation.fail(
      "quant_method",
      "left out: of Hugging Face checkpoints longctx reads F32, F16 and BF16 weights. Take the unquantised checkpoint, or a GGUF file",
    );

  const layerCount = fields.count("num_hidden_layers", undefined, { max: MAX_LAYERS });
  const hiddenSize = fields.count("hidden_size");
  const heads = headsOf(fields, family, hiddenSize);
  const vocabSize = fields.count("vocab_size");
  const maxPositions = fields.count("max_position_embeddings", family.maxPositions);
  const attentionBias =
    family.queryKeyValueBias === "config" ? fields.flag("attention_bias", false) : family.queryKeyValueBias;
  const rope = ropeFromHuggingFace(fields, {
    type: modelType,
    base: family.ropeBase,
    headSize: heads.headSize,
    maxPositions,
  });
  return {
    modelType,
    vocabSize,
    hiddenSize,
    layerCount,
    ...heads,
    feedForwardSize: fields.count("intermediate_size"),
    norm: { kind: "rms", epsilon: fields.positive("rms_norm_eps", family.epsilon) },
    feedForward: "gated",
    experts: family.experts ? expertsFromHuggingFace(fields, family.experts, layerCount) : undefined,
    activation: activationOf(fields),
    position: "rope",
    rope,
    bias: {
      query: attentionBias,
      key: attentionBias,
      value: attentionBias,
      output: family.queryKeyValueBias === "config" && attentionBias,
      feedForward: family.feedForwardBias && fields.flag("mlp_bias", false),
    },
    queryKeyNorm: family.queryKeyNorm,
    tiedEmbedding: fields.flag("tie_word_embeddings", false),
    slidingWindows: slidingWindowsOf(fields, family, layerCount),
    maxPositions,
    trainedWindow: trainedWindowOf(rope, maxPositions),
    specialTokens: specialTokensOf(
      fields,
      family,
      vocabSize,
      generation ? new Fields("generation_config.json", generation) : undefined,
    ),
  };
}

function headsOf(
  fields: Fields,
  family: ModelFamily,
  hiddenSize: number,
): Pick<ModelConfig, "queryHeads" | "keyHeads" | "headSize"> {
  const queryHeads = fields.count("num_attention_heads");
  const keyHeads = fields.count(
    "num_key_value_heads",
    (fields.has("num_key_value_heads") ? null : family.keyHeads) ?? queryHeads,
  );
  if (queryHeads % keyHeads !== 0)
    fields.fail(
      "num_key_value_heads",
      `a divisor of num_attention_heads (${queryHeads})${fields.has("num_key_value_heads") ? "" : `; where it is missing it means ${keyHeads}`}`,
    );
  const given = fields.optionalCount("head_dim") ?? family.headSize;
  if (given === null && hiddenSize % queryHeads !== 0)
    fields.fail("num_attention_heads", `a divisor of hidden_size (${hiddenSize}) as long as head_dim is not given`);
  return { queryHeads, keyHeads, headSize: given ?? hiddenSize / queryHeads };
}

function activationOf(fields: Fields): Activation {
  const name = fields.optionalText("hidden_act") ?? "silu";
  return Object.hasOwn(ACTIVATION_NAMES, name)
    ? ACTIVATION_NAMES[name]
    : fields.fail("hidden_act", listed(Object.keys(ACTIVATION_NAMES)));
}

function slidingWindowsOf(fields: Fields, family: ModelFamily, layerCount: number): (number | null)[] {
  const asked = family.sliding === "some" || family.sliding === "used";
  const used = family.sliding === "all" || (asked && fields.flag("use_sliding_window", false));
  const missing = fields.has("sliding_window") ? undefined : (family.slidingWindow ?? undefined);
  const window =
    used && (missing ?? fields.get("sliding_window")) !== undefined ? fields.count("sliding_window", missing) : null;
  const types = family.sliding === "some" ? fields.get("layer_types") : undefined;
  if (types === undefined) {
    const first = family.sliding === "some" && window !== null ? fields.count("max_window_layers", 28, { min: 0 }) : 0;
    return Array.from({ length: layerCount }, (_, layer) => (layer >= first ? window : null));
  }
  if (!Array.isArray(types) || types.length !== layerCount)
    return fields.fail("layer_types", `a list of ${layerCount} entries, one for each layer`);
  return types.map((type: unknown) => {
    if (type === "full_attention" || type === "attention") return null;
    if (type !== "sliding_attention")
      return fields.fail(
        "layer_types",
        `a list of ${listed(["full_attention", "sliding_attention"])}; it holds ${JSON.stringify(type)}`,
      );
    return (
      window ??
      fields.fail("sliding_window", "given, with use_sliding_window true: layer_types has layers of sliding_attention")
    );
  });
}

function specialTokensOf(
  fields: Fields,
  family: ModelFamily,
  vocabSize: number,
  generation: Fields | undefined,
): ModelConfig["specialTokens"] {
  const one = (name: string, fallback: number | null) => idsOf(fields, name, fallback, vocabSize)[0] ?? null;
  const eos = [
    ...idsOf(fields, "eos_token_id", family.eos, vocabSize),
    ...(generation ? idsOf(generation, "eos_token_id", null, vocabSize) : []),
  ];
  return { bos: one("bos_token_id", family.bos), eos: [...new Set(eos)], pad: one("pad_token_id", family.pad) };
}

/** Ids outside the vocabulary mean "none": old checkpoints write −1, and class defaults are for the full-sized model. */
function idsOf(fields: Fields, name: string, fallback: number | null, vocabSize: number): number[] {
  const value = fields.get(name) ?? (fields.has(name) ? null : fallback);
  const ids: unknown[] = value === null ? [] : Array.isArray(value) ? value : [value];
  return ids.filter((id): id is number => {
    if (!Number.isInteger(id)) fields.fail(name, "a token id or a list of them");
    return (id as number) >= 0 && (id as number) < vocabSize;
  });
}
