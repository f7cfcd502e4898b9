import { readFileSync } from "node:fs";
import { checkpointFrequencies, type ModelConfig } from "@longctx/core";
import { describe, expect, test } from "vitest";
import { configFromHuggingFace } from "../src/hf-config.ts";
import { refusalOf } from "./scratch.ts";

interface Case {
  readonly name: string;
  readonly config: Record<string, unknown>;
  readonly expected: {
    keyHeads: number; headSize: number; epsilon: number; maxPositions: number; tiedEmbedding: boolean; slidingWindows: (number | null)[];
    bos: number | null; eos: number[]; inverse: number[]; amplitude: number;
  }; // prettier-ignore
}
const cases = JSON.parse(readFileSync(new URL("data/configs.json", import.meta.url), "utf8")) as Case[];

const sizes = {
  vocab_size: 1000,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const llama = { model_type: "llama", ...sizes };
const longrope = { short_factor: Array<number>(8).fill(1), long_factor: Array<number>(8).fill(2) };

describe("config.json as transformers understands it", () => {
  test.each(cases)("$name", ({ config: json, expected }) => {
    const config = configFromHuggingFace(json);
    const { keyHeads, headSize, maxPositions, tiedEmbedding, slidingWindows, specialTokens, norm } = config;
    expect({
      keyHeads,
      headSize,
      maxPositions,
      tiedEmbedding,
      slidingWindows,
      epsilon: norm.epsilon,
      bos: specialTokens.bos,
      eos: specialTokens.eos,
    }).toEqual({
      ...expected,
      inverse: undefined,
      amplitude: undefined,
    });
    // transformers makes its tables in float32, for the shortest text; dynamic ones start at the trained length.
    const table = checkpointFrequencies(config.rope, maxPositions, 1);
    expect(table.inverse.length).toBe(expected.inverse.length);
    expected.inverse.forEach((frequency, i) => expect(table.inverse[i] / frequency).toBeCloseTo(1, 5));
    expect(table.amplitude).toBeCloseTo(expected.amplitude, 6);
  });

  const bias = (json: Record<string, unknown>): ModelConfig["bias"] => configFromHuggingFace(json).bias;
  test("biases are those of each architecture", () => {
    const none = { query: false, key: false, value: false, output: false, feedForward: false };
    const all = { query: true, key: true, value: true, output: true, feedForward: true };
    expect(bias(llama)).toEqual(none);
    expect(bias({ ...llama, attention_bias: true, mlp_bias: true })).toEqual(all);
    expect(bias({ ...llama, model_type: "qwen2", attention_bias: false })).toEqual({
      ...none,
      query: true,
      key: true,
      value: true,
    });
    expect(bias({ ...llama, model_type: "qwen3", attention_bias: true })).toEqual({ ...all, feedForward: false });
    expect(bias({ ...llama, model_type: "mistral", attention_bias: true, mlp_bias: true })).toEqual(none);
    expect(configFromHuggingFace({ ...llama, model_type: "qwen3" }).queryKeyNorm).toBe(true);
    expect(configFromHuggingFace({ ...llama, model_type: "qwen2" }).queryKeyNorm).toBe(false);
  });

  test("activations go by all their names", () => {
    const names = { silu: "silu", swish: "silu", gelu: "gelu", gelu_new: "gelu-tanh", gelu_pytorch_tanh: "gelu-tanh" };
    for (const [name, activation] of Object.entries(names))
      expect(configFromHuggingFace({ ...llama, hidden_act: name }).activation).toBe(activation);
  });

  test("the older name su is longrope, its window beside or inside the scaling", () => {
    const phi = { ...llama, model_type: "phi3", max_position_embeddings: 4096 };
    const beside = configFromHuggingFace({
      ...phi,
      original_max_position_embeddings: 512,
      rope_scaling: { type: "su", ...longrope },
    });
    const inside = configFromHuggingFace({
      ...phi,
      rope_scaling: { type: "su", original_max_position_embeddings: 512, ...longrope },
    });
    for (const { rope, trainedWindow } of [beside, inside]) {
      expect(rope).toMatchObject({
        type: "longrope",
        originalMaxPositions: 512,
        shortFactors: longrope.short_factor,
        longFactors: longrope.long_factor,
      });
      expect(trainedWindow).toBe(512);
    }
  });

  test("the trained window is the one before the extension", () => {
    const scaled = (rope: object) =>
      configFromHuggingFace({ ...llama, max_position_embeddings: 4096, rope_parameters: rope }).trainedWindow;
    expect(scaled({ rope_type: "default" })).toBe(4096);
    expect(scaled({ rope_type: "yarn", factor: 4, original_max_position_embeddings: 1024 })).toBe(1024);
    expect(scaled({ rope_type: "dynamic", factor: 4, original_max_position_embeddings: 1024 })).toBe(4096);
  });

  test("mixtures of experts are those of each architecture, with transformers' defaults", () => {
    const experts = (json: Record<string, unknown>) => configFromHuggingFace({ ...sizes, ...json }).experts;
    expect(experts({ model_type: "llama", num_local_experts: 8 })).toBeUndefined();
    const mixtral = { count: 8, perToken: 2, feedForwardSize: 128, renormalise: true };
    expect(experts({ model_type: "mixtral" })).toEqual(mixtral);
    expect(experts({ model_type: "mixtral", num_local_experts: 4, num_experts_per_tok: 3 })).toEqual({
      ...mixtral,
      count: 4,
      perToken: 3,
    });
    const qwen = { model_type: "qwen3_moe", moe_intermediate_size: 24 };
    expect(experts({ model_type: "qwen3_moe" })).toEqual({
      count: 128,
      perToken: 8,
      feedForwardSize: 768,
      renormalise: false,
    });
    for (const name of ["num_experts", "num_local_experts"])
      expect(experts({ ...qwen, [name]: 16, norm_topk_prob: true })).toEqual({
        count: 16,
        perToken: 8,
        feedForwardSize: 24,
        renormalise: true,
      });
    expect(configFromHuggingFace({ ...sizes, model_type: "mixtral" }).rope.base).toBe(1e6);
    expect(configFromHuggingFace({ ...sizes, ...qwen, use_sliding_window: true }).slidingWindows).toEqual([
      4096, 4096, 4096,
    ]);
  });

  test("Gemma 2 is told apart by its type, with transformers' defaults", () => {
    const gemma = { ...sizes, model_type: "gemma2", num_key_value_heads: undefined };
    expect(configFromHuggingFace(gemma)).toMatchObject({
      keyHeads: 4,
      headSize: 256,
      activation: "gelu-tanh",
      tiedEmbedding: true,
      slidingWindows: [4096, null, 4096],
      postNorms: true,
      embeddingScale: 8,
      attentionScale: 1 / 16,
      logitSoftCap: 30,
      attentionSoftCap: 50,
      specialTokens: { bos: 2, eos: [1], pad: 0 },
    });
    const own = configFromHuggingFace({
      ...gemma,
      sliding_window: 8,
      layer_types: ["full_attention", "sliding_attention", "sliding_attention"],
      query_pre_attn_scalar: 144,
      attn_logit_softcapping: null,
      final_logit_softcapping: 20,
    });
    expect(own).toMatchObject({ slidingWindows: [null, 8, 8], attentionScale: 1 / 12, logitSoftCap: 20 });
    expect(own.attentionSoftCap).toBeUndefined();
    expect(configFromHuggingFace({ ...llama, attn_logit_softcapping: 50 }).attentionSoftCap).toBeUndefined();
  });

  test("generation_config.json adds ends of text, and ids outside the vocabulary mean none", () => {
    const { specialTokens } = configFromHuggingFace({ ...llama, eos_token_id: 3, pad_token_id: -1 }, "config.json", {
      eos_token_id: [3, 5],
    });
    expect(specialTokens).toEqual({ bos: 1, eos: [3, 5], pad: null });
    expect(configFromHuggingFace({ ...llama, model_type: "phi3" }).specialTokens).toEqual({
      bos: 1,
      eos: [],
      pad: null,
    });
  });
});

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
