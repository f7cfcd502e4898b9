import { readFileSync } from "node:fs";
import { trainedWindowOf, Weights, type Activation, type ModelConfig, type RopeConfig, type RopeType, type WeightTensor } from "@longctx/core";
import { readSafetensors, type StoredTensor } from "./read-safetensors.ts";

const ACTIVATIONS: Record<string, Activation> = { silu: "silu", gelu: "gelu", gelu_pytorch_tanh: "gelu-tanh" };
const NAMES: readonly [RegExp, string][] = [
  [/^model\.embed_tokens\.weight$/, "embedding"],
  [/^model\.norm\.weight$/, "finalNorm"],
  [/^lm_head\.weight$/, "head"],
  [/input_layernorm/, "attentionNorm"],
  [/post_attention_layernorm/, "feedForwardNorm"],
  [/self_attn\.(q|k)_norm/, "$1Norm"],
  [/self_attn\.([qkvo])_proj/, "$1"],
  [/mlp\.(gate|up|down)_proj/, "$1"],
];
const LETTERS: Record<string, string> = { q: "query", k: "key", v: "value", o: "output", qNorm: "queryNorm", kNorm: "keyNorm" };

/** A stand-in for the loaders: reads only what golden/ holds. */
export function readCheckpoint(folder: string): { config: ModelConfig; weights: Weights } {
  const json = JSON.parse(readFileSync(`${folder}/config.json`, "utf8"));
  const config = readConfig(json);
  const tensors = new Map<string, WeightTensor>();
  const put = (name: string, shape: readonly number[], bytes: Uint8Array) =>
    tensors.set(name, { name, shape, type: "F32", bytes: () => bytes.slice(), toFloat32: () => new Float32Array(bytes.slice().buffer) });
  for (const [stored, { shape, bytes }] of apart(readSafetensors(`${folder}/model.safetensors`), config)) {
    const layer = /layers\.(\d+)\./.exec(stored)?.[1];
    const [pattern, name] = NAMES.find(([candidate]) => candidate.test(stored))!;
    const short = name.replace("$1", pattern.exec(stored)![1] ?? "");
    put(`${layer === undefined ? "" : `layers.${layer}.`}${LETTERS[short] ?? short}${stored.endsWith(".bias") ? ".bias" : ""}`, shape, bytes);
  }
  return { config, weights: new Weights(tensors) };
}

/** Phi-3's fused rows, taken apart. */
function* apart(tensors: Map<string, StoredTensor>, config: ModelConfig): Generator<[string, StoredTensor]> {
  const { queryHeads, keyHeads, headSize, feedForwardSize } = config;
  for (const [name, tensor] of tensors) {
    const fused = /(qkv_proj|gate_up_proj)/.exec(name)?.[1];
    if (!fused) yield [name, tensor];
    else {
      const parts: [string, number][] =
        fused === "qkv_proj"
          ? [["q_proj", queryHeads * headSize], ["k_proj", keyHeads * headSize], ["v_proj", keyHeads * headSize]] // prettier-ignore
          : [["gate_proj", feedForwardSize], ["up_proj", feedForwardSize]]; // prettier-ignore
      const row = tensor.bytes.length / tensor.shape[0];
      let from = 0;
      for (const [part, rows] of parts) {
        yield [name.replace(fused, part), { shape: [rows, tensor.shape[1]], bytes: tensor.bytes.slice(from * row, (from + rows) * row) }];
        from += rows;
      }
    }
  }
}

function readConfig(json: any): ModelConfig {
  const headSize = json.head_dim ?? json.hidden_size / json.num_attention_heads;
  const given = json.rope_parameters;
  const rope: RopeConfig = {
    type: given.rope_type as RopeType,
    base: given.rope_theta,
    rotarySize: headSize * (given.partial_rotary_factor ?? 1),
    factor: given.factor,
    originalMaxPositions: given.original_max_position_embeddings,
    betaFast: given.beta_fast,
    betaSlow: given.beta_slow,
    mscale: given.mscale,
    mscaleAllDim: given.mscale_all_dim,
    truncate: given.truncate,
    lowFreqFactor: given.low_freq_factor,
    highFreqFactor: given.high_freq_factor,
    shortFactors: given.short_factor,
    longFactors: given.long_factor,
  };
  const qwen2 = json.model_type === "qwen2";
  return {
    modelType: json.model_type,
    vocabSize: json.vocab_size,
    hiddenSize: json.hidden_size,
    layerCount: json.num_hidden_layers,
    queryHeads: json.num_attention_heads,
    keyHeads: json.num_key_value_heads,
    headSize,
    feedForwardSize: json.intermediate_size,
    norm: { kind: "rms", epsilon: json.rms_norm_eps },
    feedForward: "gated",
    activation: ACTIVATIONS[json.hidden_act],
    position: "rope",
    rope,
    bias: {
      query: qwen2 || Boolean(json.attention_bias),
      key: qwen2 || Boolean(json.attention_bias),
      value: qwen2 || Boolean(json.attention_bias),
      output: Boolean(json.attention_bias),
      feedForward: Boolean(json.mlp_bias),
    },
    queryKeyNorm: json.model_type === "qwen3",
    tiedEmbedding: json.tie_word_embeddings,
    slidingWindows: Array.from({ length: json.num_hidden_layers }, (_, layer) => ((json.layer_types?.[layer] ?? "sliding_attention") === "sliding_attention" ? (json.sliding_window ?? null) : null)),
    maxPositions: json.max_position_embeddings,
    trainedWindow: trainedWindowOf(rope, json.max_position_embeddings),
    specialTokens: { bos: 1, eos: [2], pad: 0 },
  };
}
