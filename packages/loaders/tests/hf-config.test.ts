import { readFileSync } from "node:fs";
import { checkpointFrequencies, type ModelConfig } from "@longctx/core";
import { describe, expect, test } from "vitest";
import { configFromHuggingFace } from "../src/hugging-face/config.ts";
import { llama, longrope, sizes } from "./small-configs.ts";

interface Case {
  readonly name: string;
  readonly config: Record<string, unknown>;
  readonly expected: {
    keyHeads: number; headSize: number; epsilon: number; maxPositions: number; tiedEmbedding: boolean; slidingWindows: (number | null)[];
    bos: number | null; eos: number[]; inverse: number[]; amplitude: number;
  }; // prettier-ignore
}
const cases = JSON.parse(readFileSync(new URL("data/configs.json", import.meta.url), "utf8")) as Case[];

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
