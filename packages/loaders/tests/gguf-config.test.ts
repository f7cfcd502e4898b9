import { checkpointFrequencies, type ModelConfig } from "@longctx/core";
import { llama3Frequencies, yarnAmplitude } from "@longctx/rope-types";
import { describe, expect, test } from "vitest";
import { weightsFromGguf } from "../src/checkpoint/canonical-weights.ts";
import { configFromGguf } from "../src/gguf/config.ts";
import { openGguf } from "../src/checkpoint/disk.ts";
import { buildGguf, type BuiltTensor, floats, type Written } from "./gguf-builder.ts";
import { refusalOf, scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();

/** A llama of 2 layers, 4 heads of 16. */
const LLAMA: Readonly<Record<string, Written>> = {
  "general.architecture": { text: "llama" },
  "llama.block_count": { u32: 2 },
  "llama.context_length": { u32: 4096 },
  "llama.embedding_length": { u32: 64 },
  "llama.feed_forward_length": { u32: 128 },
  "llama.attention.head_count": { u32: 4 },
  "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
};
const vector = (name: string, values: readonly number[]): BuiltTensor => ({
  name,
  shape: [values.length],
  type: 0,
  bytes: floats(values),
});
const EMBEDDING: BuiltTensor = {
  name: "token_embd.weight",
  shape: [100, 1],
  type: 0,
  bytes: floats(Array<number>(100).fill(0)),
};

function configOf(metadata: Readonly<Record<string, Written>>, tensors: readonly BuiltTensor[] = []): ModelConfig {
  const file = openGguf(
    scratch.write("config.gguf", buildGguf({ metadata: { ...LLAMA, ...metadata }, tensors: [EMBEDDING, ...tensors] })),
  );
  try {
    return configFromGguf(file);
  } finally {
    file.close();
  }
}

/** The same metadata under another architecture's names. */
function as(architecture: string): Record<string, Written> {
  const renamed = Object.entries(LLAMA).map(([key, value]) => [key.replace("llama.", `${architecture}.`), value]);
  return { ...Object.fromEntries(renamed), "general.architecture": { text: architecture } };
}

describe("GGUF metadata", () => {
  test("the least there can be", () => {
    expect(configOf({})).toEqual({
      modelType: "llama",
      vocabSize: 100,
      hiddenSize: 64,
      layerCount: 2,
      queryHeads: 4,
      keyHeads: 4,
      headSize: 16,
      feedForwardSize: 128,
      norm: { kind: "rms", epsilon: Math.fround(1e-5) },
      feedForward: "gated",
      activation: "silu",
      position: "rope",
      rope: { type: "default", base: 10_000, rotarySize: 16 },
      bias: { query: false, key: false, value: false, output: false, feedForward: false },
      queryKeyNorm: false,
      tiedEmbedding: true,
      slidingWindows: [null, null],
      maxPositions: 4096,
      trainedWindow: 4096,
      specialTokens: { bos: null, eos: [], pad: null },
    });
  });

  test("heads of their own size, counts written for each layer, a head and biases by their tensors", () => {
    const config = configOf(
      {
        "llama.attention.head_count_kv": { i32s: [2, 2] },
        "llama.feed_forward_length": { i32s: [96, 96] },
        "llama.attention.key_length": { u32: 32 },
        "llama.attention.value_length": { u32: 32 },
      },
      [vector("output.weight", [1]), vector("blk.0.attn_q.bias", [1]), vector("blk.0.attn_output.bias", [1])],
    );
    expect(config).toMatchObject({
      keyHeads: 2,
      headSize: 32,
      feedForwardSize: 96,
      tiedEmbedding: false,
      rope: { rotarySize: 32 },
    });
    expect(config.bias).toEqual({ query: true, key: false, value: false, output: true, feedForward: false });
  });

  test("the ends of a text are eos, eot and eom", () => {
    const id = (value: number) => ({ u32: value });
    const tokens = {
      "tokenizer.ggml.bos_token_id": id(1),
      "tokenizer.ggml.eos_token_id": id(2),
      "tokenizer.ggml.eot_token_id": id(9),
      "tokenizer.ggml.eom_token_id": id(2),
      "tokenizer.ggml.padding_token_id": id(2 ** 32 - 1),
    };
    expect(configOf(tokens).specialTokens).toEqual({ bos: 1, eos: [2, 9], pad: null });
  });

  test("sliding windows: none, all layers, or by a pattern", () => {
    const window = (size: number, pattern?: boolean[]) =>
      configOf({
        "llama.attention.sliding_window": { u32: size },
        ...(pattern && { "llama.attention.sliding_window_pattern": { bools: pattern } }),
      }).slidingWindows;
    expect(window(0)).toEqual([null, null]);
    expect(window(512)).toEqual([512, 512]);
    expect(window(512, [true, false])).toEqual([512, null]);
  });

  test("soft caps, with 0 for none", () => {
    expect(configOf({ "llama.attn_logit_softcapping": { f32: 50 }, "llama.final_logit_softcapping": { f32: 30 } })).toMatchObject({ attentionSoftCap: 50, logitSoftCap: 30 }); // prettier-ignore
    const none = configOf({ "llama.attn_logit_softcapping": { f32: 0 } });
    expect([none.attentionSoftCap, none.logitSoftCap]).toEqual([undefined, undefined]);
  });

  test("mixtures of experts: Mixtral's are as wide as is written for the whole, Qwen3's have a width of their own", () => {
    const counts = (name: string, changes: Record<string, Written> = {}) => ({
      ...as(name),
      [`${name}.expert_count`]: { u32: 8 },
      [`${name}.expert_used_count`]: { u32: 2 },
      ...changes,
    });
    const experts = { count: 8, perToken: 2, feedForwardSize: 128, renormalise: true };
    expect(configOf(counts("llama")).experts).toEqual(experts);
    const own = counts("qwen3moe", { "qwen3moe.expert_feed_forward_length": { u32: 24 } });
    expect(configOf(own)).toMatchObject({ experts: { ...experts, feedForwardSize: 24 }, queryKeyNorm: true });
  });

  test("Qwen3 has norms of query and key", () => {
    expect(configOf(as("qwen3"))).toMatchObject({ modelType: "qwen3", queryKeyNorm: true });
    expect(configOf(as("qwen2")).queryKeyNorm).toBe(false);
  });
});

describe("the rotary part", () => {
  const scaling = (type: string, values: Readonly<Record<string, number>>): Record<string, Written> => ({
    "llama.rope.scaling.type": { text: type },
    ...Object.fromEntries(
      Object.entries(values).map(([key, value]) => [
        `llama.rope.scaling.${key}`,
        key === "original_context_length" ? { u32: value } : { f32: value },
      ]),
    ),
  });
  const table = (config: ModelConfig, length: number) =>
    checkpointFrequencies(config.rope, config.maxPositions, length);

  test("none and linear", () => {
    expect(configOf({ "llama.rope.freq_base": { f32: 5e5 }, "llama.rope.dimension_count": { u32: 8 } }).rope).toEqual({
      type: "default",
      base: 500_000,
      rotarySize: 8,
    });
    expect(configOf(scaling("none", { factor: 4 })).rope.type).toBe("default");
    expect(configOf(scaling("linear", { factor: 4 })).rope).toMatchObject({ type: "linear", factor: 4 });
    expect(configOf(scaling("linear", { factor: 0 })).rope.type).toBe("default");
    const { "llama.rope.scaling.factor": factor } = scaling("", { factor: 2 });
    expect(configOf({ "llama.rope.scaling.factor": factor }).rope).toMatchObject({ type: "linear", factor: 2 });
  });

  test("yarn, with llama.cpp's factors on the attention", () => {
    const plain = configOf(scaling("yarn", { factor: 4, original_context_length: 1024, yarn_beta_fast: 16 }));
    expect(plain.rope).toMatchObject({ type: "yarn", factor: 4, originalMaxPositions: 1024, betaFast: 16 });
    expect(plain.trainedWindow).toBe(1024);
    expect(table(plain, 1).amplitude).toBe(yarnAmplitude(4));
    expect(table(configOf(scaling("yarn", { factor: 4, attn_factor: 0.5 })), 1).amplitude).toBe(0.5 * yarnAmplitude(4));
    expect(table(configOf(scaling("yarn", { factor: 4, attn_factor: 0.5, yarn_attn_factor: 1.5 })), 1).amplitude).toBe(
      1.5,
    );
  });

  test("Llama 3.1's bands come as divisors", () => {
    const bands = { factor: 8, window: 1024, low: 1, high: 4 };
    const expected = llama3Frequencies(500_000, 16, bands);
    const divisors = [...expected].map((frequency, i) => 500_000 ** (-i / 8) / frequency);
    const config = configOf({ "llama.rope.freq_base": { f32: 5e5 } }, [vector("rope_freqs.weight", divisors)]);
    expect(config.rope).toMatchObject({ type: "default", frequencyDivisors: divisors.map(Math.fround) });
    table(config, 5000).inverse.forEach((frequency, i) => expect(frequency / expected[i]).toBeCloseTo(1, 6));
    const both = configOf(scaling("linear", { factor: 2 }), [vector("rope_freqs.weight", divisors)]);
    expect(both.rope.frequencyDivisors).toEqual(divisors.map((divisor) => 2 * Math.fround(divisor)));
  });

  test("longrope is known by its factors", () => {
    const factors = [
      vector("rope_factors_short.weight", Array<number>(8).fill(1)),
      vector("rope_factors_long.weight", Array<number>(8).fill(4)),
    ];
    const config = configOf(
      { "llama.rope.scaling.original_context_length": { u32: 1024 }, "llama.rope.scaling.attn_factor": { f32: 1.25 } },
      factors,
    );
    expect(config.rope).toMatchObject({ type: "longrope", originalMaxPositions: 1024, attentionFactor: 1.25 });
    expect(config.trainedWindow).toBe(1024);
    expect([table(config, 1024), table(config, 1025)].map(({ inverse, amplitude }) => [inverse[0], amplitude])).toEqual([[1, 1.25], [0.25, 1.25]]); // prettier-ignore
  });

  test.each<[string, Record<string, Written>, BuiltTensor[], string]>([
    ["an unknown type", scaling("ntk", {}), [], 'llama.rope.scaling.type is "ntk"'],
    ["yarn without a factor", scaling("yarn", {}), [], "llama.rope.scaling.factor is missing"],
    ["a base of 0", { "llama.rope.freq_base": { f32: 0 } }, [], "llama.rope.freq_base is 0"],
    ["a base of NaN", { "llama.rope.freq_base": { f32: Number.NaN } }, [], "llama.rope.freq_base is NaN"],
    [
      "a base of 1",
      { "llama.rope.freq_base": { f32: 1 } },
      [],
      "llama.rope.freq_base is 1, but has to be a finite number above 1",
    ],
    ["an odd size", { "llama.rope.dimension_count": { u32: 7 } }, [], "llama.rope.dimension_count is 7"],
    ["more than a head", { "llama.rope.dimension_count": { u32: 18 } }, [], "whole number from 2 to 16"],
    ["too few divisors", {}, [vector("rope_freqs.weight", [1, 1])], "rope_freqs.weight has the shape [2]"],
    ["a divisor of 0", {}, [vector("rope_freqs.weight", [1, 1, 1, 1, 0, 1, 1, 1])], "rope_freqs.weight holds 0"],
    ["half of longrope", {}, [vector("rope_factors_long.weight", Array<number>(8).fill(4))], "one is missing"],
    [
      "yarn with divisors",
      scaling("yarn", { factor: 4 }),
      [vector("rope_freqs.weight", Array<number>(8).fill(1))],
      "yarn together with rope_freqs.weight",
    ],
  ])("%s is refused", async (_, metadata, tensors, message) => {
    const error = await refusalOf(() => configOf(metadata, tensors));
    expect(error.code).toBe("config");
    expect(error.message).toContain("config.gguf");
    expect(error.message).toContain(message);
  });
});

describe("metadata of no model that longctx has", () => {
  test.each<[string, Record<string, Written>, string]>([
    [
      "another architecture",
      { "general.architecture": { text: "gemma3" } },
      'general.architecture is "gemma3", but has to be one that longctx has: llama, qwen2, qwen3, qwen3moe, phi3 or gemma2',
    ],
    ["no experts chosen", { "llama.expert_count": { u32: 8 } }, "llama.expert_used_count is missing"],
    [
      "more experts chosen than there are",
      { "llama.expert_count": { u32: 2 }, "llama.expert_used_count": { u32: 3 } },
      "at most the number of experts (2)",
    ],
    ["shared experts", { "llama.expert_shared_count": { u32: 1 } }, "llama.expert_shared_count is 1"],
    ["a negative cap", { "llama.attn_logit_softcapping": { f32: -1 } }, "llama.attn_logit_softcapping is -1"],
    ["a scale of the logits", { "llama.logit_scale": { f32: 0.5 } }, "llama.logit_scale is 0.5"],
    ["no causal attention", { "llama.attention.causal": { bool: false } }, "llama.attention.causal is false"],
    ["one of many parts", { "split.count": { u32: 3 } }, "llama-gguf-split --merge"],
    ["no layers", { "llama.block_count": { u32: 0 } }, "llama.block_count is 0"],
    ["2^32 − 1 layers", { "llama.block_count": { u32: 2 ** 32 - 1 } }, "llama.block_count is 4294967295"],
    ["heads that do not divide", { "llama.attention.head_count": { u32: 3 } }, "llama.attention.head_count is 3"],
    ["no key heads", { "llama.attention.head_count_kv": { u32: 0 } }, "llama.attention.head_count_kv is 0"],
    [
      "key heads that differ",
      { "llama.attention.head_count_kv": { i32s: [2, 4] } },
      "llama.attention.head_count_kv is [2,4]",
    ],
    ["values of another size", { "llama.attention.value_length": { u32: 8 } }, "llama.attention.value_length is 8"],
    [
      "an eps as text",
      { "llama.attention.layer_norm_rms_epsilon": { text: "small" } },
      'layer_norm_rms_epsilon is "small"',
    ],
    [
      "more tokens than rows",
      { "tokenizer.ggml.tokens": { texts: Array<string>(101).fill("a") } },
      "at most 100 tokens",
    ],
    [
      "a pattern of another length",
      { "llama.attention.sliding_window": { u32: 9 }, "llama.attention.sliding_window_pattern": { bools: [true] } },
      "sliding_window_pattern",
    ],
  ])("%s", async (_, metadata, message) => {
    const error = await refusalOf(() => configOf(metadata));
    expect(error.code).toBe("config");
    expect(error.message).toContain(message);
  });

  test("a tensor that the architecture does not have", async () => {
    const file = openGguf(
      scratch.write(
        "extra.gguf",
        buildGguf({ metadata: LLAMA, tensors: [EMBEDDING, vector("blk.0.attn_sub_norm.weight", [1])] }),
      ),
    );
    const error = await refusalOf(() => weightsFromGguf(file, configFromGguf(file)));
    expect(error.code).toBe("config");
    expect(error.message).toContain("blk.0.attn_sub_norm.weight (F32) is no part of the architecture llama");
    file.close();
  });
});
