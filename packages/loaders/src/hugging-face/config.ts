import { type Activation, type ExpertsConfig, listed, type ModelConfig, trainedWindowOf } from "@longctx/core";
import { Fields } from "../common/fields.ts";
import { FAMILIES, type ExpertFields, type ModelFamily } from "./families.ts";
import { ropeFromHuggingFace } from "./rope.ts";

const MAX_LAYERS = 4096;
const MAX_EXPERTS = 4096;

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
 * The model's description out of a Hugging Face `config.json`; missing fields have transformers' default values.
 * `generation` is the content of `generation_config.json`, which may name more tokens that end a text.
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
    experts: family.experts ? expertsOf(fields, family.experts, layerCount) : undefined,
    activation: activationOf(fields, family),
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
    tiedEmbedding: fields.flag("tie_word_embeddings", family.tiedEmbedding),
    ...(family.gemma ? gemmaOf(fields, hiddenSize) : {}),
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

function activationOf(fields: Fields, { activationField, activation }: ModelFamily): Activation {
  const name = fields.optionalText(activationField);
  if (name === undefined) return activation;
  return Object.hasOwn(ACTIVATION_NAMES, name)
    ? ACTIVATION_NAMES[name]
    : fields.fail(activationField, listed(Object.keys(ACTIVATION_NAMES)));
}

/**
 * The mixture of experts, with the defaults of transformers' config classes.
 * @throws LongctxError "config" when a layer has no experts
 */
function expertsOf(fields: Fields, kind: ExpertFields, layerCount: number): ExpertsConfig {
  // transformers 5 writes Qwen's `num_experts` as `num_local_experts`.
  const name = kind === "qwen" && fields.has("num_experts") ? "num_experts" : "num_local_experts";
  const count = fields.count(name, kind === "mixtral" ? 8 : 128, { max: MAX_EXPERTS });
  const perToken = fields.count("num_experts_per_tok", kind === "mixtral" ? 2 : 8);
  if (perToken > count) fields.fail("num_experts_per_tok", `at most the number of experts (${count})`);
  if (kind === "mixtral")
    return { count, perToken, feedForwardSize: fields.count("intermediate_size"), renormalise: true };
  const step = fields.count("decoder_sparse_step", 1);
  if (step !== 1) fields.fail("decoder_sparse_step", "1: in longctx all layers of a model have experts, or none");
  const dense = fields.get("mlp_only_layers") ?? [];
  if (!Array.isArray(dense) || dense.some((layer) => layer < layerCount))
    fields.fail("mlp_only_layers", "empty: in longctx all layers of a model have experts, or none");
  return {
    count,
    perToken,
    feedForwardSize: fields.count("moe_intermediate_size", 768),
    renormalise: fields.flag("norm_topk_prob", false),
  };
}

/**
 * What Gemma 2 computes beyond a Llama: norms after each block, scales, soft caps. A cap written as null means none.
 */
function gemmaOf(fields: Fields, hiddenSize: number): Partial<ModelConfig> {
  if (fields.flag("use_bidirectional_attention", false))
    fields.fail("use_bidirectional_attention", "false or left out: longctx reads texts from left to right");
  const cap = (name: string, missing: number) => (fields.has(name) ? fields.optionalPositive(name) : missing);
  return {
    postNorms: true,
    embeddingScale: Math.fround(Math.sqrt(hiddenSize)),
    attentionScale: 1 / Math.sqrt(fields.positive("query_pre_attn_scalar", 256)),
    logitSoftCap: cap("final_logit_softcapping", 30),
    attentionSoftCap: cap("attn_logit_softcapping", 50),
  };
}

function slidingWindowsOf(fields: Fields, family: ModelFamily, layerCount: number): (number | null)[] {
  const asked = !family.gemma && (family.sliding === "some" || family.sliding === "used");
  const used = family.sliding === "all" || family.gemma || (asked && fields.flag("use_sliding_window", false));
  const missing = fields.has("sliding_window") ? undefined : (family.slidingWindow ?? undefined);
  const window =
    used && (missing ?? fields.get("sliding_window")) !== undefined ? fields.count("sliding_window", missing) : null;
  const types = family.sliding === "some" ? fields.get("layer_types") : undefined;
  if (types === undefined && family.gemma)
    return Array.from({ length: layerCount }, (_, layer) => (layer % 2 === 0 ? window : null));
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

/**
 * The token ids of a field, without those outside of the vocabulary: old checkpoints write −1 for "none", and the
 * defaults of transformers are ids of the full-sized vocabulary.
 */
function idsOf(fields: Fields, name: string, fallback: number | null, vocabSize: number): number[] {
  const value = fields.get(name) ?? (fields.has(name) ? null : fallback);
  const ids: unknown[] = value === null ? [] : Array.isArray(value) ? value : [value];
  return ids.filter((id): id is number => {
    if (!Number.isInteger(id)) fields.fail(name, "a token id or a list of them");
    return (id as number) >= 0 && (id as number) < vocabSize;
  });
}
