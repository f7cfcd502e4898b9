import { describe, expect, test } from "vitest";
import { configFromHuggingFace } from "../src/hugging-face/config.ts";
import { refusalOf } from "./scratch.ts";
import { llama, longrope } from "./small-configs.ts";

describe("an impossible config.json", () => {
  test.each<[string, Record<string, unknown>, string[]]>([
    [
      "no type",
      { ...llama, model_type: undefined },
      ["model_type is missing", "llama, mistral, qwen2, qwen3, mixtral, qwen3_moe, gemma2 or phi3"],
    ],
    [
      "an unknown type",
      { ...llama, model_type: "gpt2" },
      ['model_type is "gpt2"', "llama, mistral, qwen2, qwen3, mixtral, qwen3_moe, gemma2 or phi3"],
    ],
    ["a type of the prototype", { ...llama, model_type: "constructor" }, ['model_type is "constructor"']],
    [
      "more experts chosen than there are",
      { ...llama, model_type: "mixtral", num_local_experts: 2, num_experts_per_tok: 3 },
      ["num_experts_per_tok is 3", "at most the number of experts (2)"],
    ],
    [
      "experts in every second layer",
      { ...llama, model_type: "qwen3_moe", decoder_sparse_step: 2 },
      ["decoder_sparse_step is 2", "all layers"],
    ],
    [
      "experts but for a layer",
      { ...llama, model_type: "qwen3_moe", mlp_only_layers: [1] },
      ["mlp_only_layers is [1]", "all layers"],
    ],
    [
      "a text read in both directions",
      { ...llama, model_type: "gemma2", use_bidirectional_attention: true },
      ["use_bidirectional_attention is true", "left to right"],
    ],
    ["no heads", { ...llama, num_attention_heads: 0 }, ["num_attention_heads is 0", "whole number from 1"]],
    ["no size", { ...llama, hidden_size: undefined }, ["hidden_size is missing"]],
    ["a size as text", { ...llama, hidden_size: "64" }, ['hidden_size is "64"']],
    ["half a layer", { ...llama, num_hidden_layers: 2.5 }, ["num_hidden_layers is 2.5"]],
    ["a million layers", { ...llama, num_hidden_layers: 1e6 }, ["num_hidden_layers is 1000000", "4096"]],
    ["NaN", { ...llama, vocab_size: Number.NaN }, ["vocab_size is NaN"]],
    ["an endless window", { ...llama, max_position_embeddings: Infinity }, ["max_position_embeddings is Infinity"]],
    [
      "key heads that do not divide",
      { ...llama, num_key_value_heads: 3 },
      ["num_key_value_heads is 3", "divisor of num_attention_heads (4)"],
    ],
    [
      "heads that do not divide",
      { ...llama, num_attention_heads: 6 },
      ["num_attention_heads is 6", "divisor of hidden_size (64)", "head_dim"],
    ],
    ["odd heads", { ...llama, head_dim: 15 }, ["head_dim is 15", "even"]],
    ["an eps of 0", { ...llama, rms_norm_eps: 0 }, ["rms_norm_eps is 0", "above 0"]],
    ["an unknown activation", { ...llama, hidden_act: "relu" }, ['hidden_act is "relu"', "silu", "gelu_new"]],
    ["a bias that is no flag", { ...llama, attention_bias: 1 }, ["attention_bias is 1", "true or false"]],
    ["a text as token id", { ...llama, eos_token_id: "</s>" }, ['eos_token_id is "</s>"']],
    ["a negative base", { ...llama, rope_theta: -1 }, ["rope_theta is -1"]],
    ["a base of 1", { ...llama, rope_theta: 1 }, ["rope_theta is 1", "a finite number above 1"]],
    [
      "a base below 1",
      { ...llama, rope_parameters: { rope_theta: 0.5 } },
      ["rope_parameters: rope_theta is 0.5", "above 1"],
    ],
    [
      "an unknown rotary type",
      { ...llama, rope_scaling: { type: "ntk" } },
      ['rope_scaling: type is "ntk"', "default, linear, dynamic, yarn, longrope, llama3 or su"],
    ],
    ["a scaling that is no object", { ...llama, rope_scaling: "yarn" }, ['rope_scaling is "yarn"', "an object"]],
    ["linear without a factor", { ...llama, rope_scaling: { type: "linear" } }, ["rope_scaling: factor is missing"]],
    [
      "llama3 without its bands",
      { ...llama, rope_scaling: { rope_type: "llama3", factor: 8 } },
      ["low_freq_factor is missing"],
    ],
    [
      "llama3 with crossed bands",
      { ...llama, rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 1 } },
      ["high_freq_factor is 1", "at least low_freq_factor (4)"],
    ],
    [
      "longrope without factors",
      { ...llama, rope_scaling: { rope_type: "longrope" } },
      ["short_factor is missing", "list of 8"],
    ],
    [
      "longrope with too few",
      { ...llama, rope_scaling: { rope_type: "longrope", ...longrope, long_factor: [1, 2] } },
      ["long_factor is [1,2]", "list of 8"],
    ],
    [
      "longrope with a zero",
      { ...llama, rope_scaling: { rope_type: "longrope", ...longrope, short_factor: [0, 1, 1, 1, 1, 1, 1, 1] } },
      ["short_factor"],
    ],
    [
      "rotary parameters by layer type",
      { ...llama, rope_parameters: { full_attention: { rope_type: "default" } } },
      ["full_attention", "one set"],
    ],
    [
      "part of a head in a llama",
      { ...llama, partial_rotary_factor: 0.5 },
      ["partial_rotary_factor is 0.5", "llama rotate whole heads"],
    ],
    [
      "more than a head",
      { ...llama, model_type: "phi3", partial_rotary_factor: 1.5 },
      ["partial_rotary_factor is 1.5", "at most 1"],
    ],
    [
      "an odd part of a head",
      { ...llama, model_type: "phi3", partial_rotary_factor: 0.2 },
      ["partial_rotary_factor is 0.2", "even number of the 16 channels"],
    ],
    ["a window of 0", { ...llama, model_type: "mistral", sliding_window: 0 }, ["sliding_window is 0"]],
    [
      "too few layer types",
      { ...llama, model_type: "qwen3", layer_types: ["full_attention"] },
      ["layer_types", "3 entries"],
    ],
    [
      "an unknown layer type",
      { ...llama, model_type: "qwen3", layer_types: ["full_attention", "linear_attention", "full_attention"] },
      ["layer_types", "linear_attention"],
    ],
    [
      "bounded layers without a window",
      { ...llama, model_type: "qwen3", layer_types: Array(3).fill("sliding_attention") },
      ["sliding_window is missing", "use_sliding_window"],
    ],
    [
      "quantised weights",
      { ...llama, quantization_config: { quant_method: "gptq" } },
      ['quantization_config: quant_method is "gptq"', "GGUF"],
    ],
  ])("%s", async (_, json, parts) => {
    const { code, message } = await refusalOf(() => configFromHuggingFace(json));
    expect(code).toBe("config");
    expect(message).toContain("config.json");
    for (const part of parts) expect(message).toContain(part);
  });
});
