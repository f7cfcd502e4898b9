import { type ExpertsConfig, listed, type ModelConfig, trainedWindowOf } from "@longctx/core";
import { Fields } from "../common/fields.ts";
import type { GgufFile } from "./file.ts";
import { ropeFromGguf } from "./rope.ts";

/** The values of `general.architecture` that longctx reads; `llama` stands for Llama, Mistral, Mixtral and SmolLM2. */
export const GGUF_ARCHITECTURES = ["llama", "qwen2", "qwen3", "qwen3moe", "phi3", "gemma2"] as const;

const MAX_LAYERS = 4096;
const MAX_EXPERTS = 4096;

/** Keys of computations that longctx does not have, each with the one value at which the computation does nothing. */
const NEUTRAL_VALUES: Readonly<Record<string, unknown>> = {
  expert_shared_count: 0,
  logit_scale: 1,
  residual_scale: 1,
  embedding_scale: 1,
  "attention.clamp_kqv": 0,
  "attention.scale": 0,
  "attention.causal": true,
};

/**
 * The model's description out of GGUF metadata; which biases the model has and whether its head is tied to the
 * embedding, follow from the tensors there are.
 * @throws LongctxError "config" naming the key, its value and what is possible
 */
export function configFromGguf({
  path,
  metadata,
  tensors,
}: Pick<GgufFile, "path" | "metadata" | "tensors">): ModelConfig {
  const fields = new Fields(path, withUniformArrays(metadata));
  const architecture = fields.optionalText("general.architecture");
  if (!GGUF_ARCHITECTURES.some((name) => name === architecture))
    return fields.fail("general.architecture", `one that longctx has: ${listed(GGUF_ARCHITECTURES)}`);
  const key = (name: string) => `${architecture}.${name}`;
  checkSupported(fields, key);

  const layerCount = fields.count(key("block_count"), undefined, { max: MAX_LAYERS });
  const hiddenSize = fields.count(key("embedding_length"));
  const queryHeads = fields.count(key("attention.head_count"));
  const keyHeads = fields.count(key("attention.head_count_kv"), queryHeads);
  if (queryHeads % keyHeads !== 0)
    fields.fail(key("attention.head_count_kv"), `a divisor of the ${queryHeads} query heads`);
  const keyLength = fields.optionalCount(key("attention.key_length"));
  if (keyLength === undefined && hiddenSize % queryHeads !== 0)
    fields.fail(
      key("attention.head_count"),
      `a divisor of embedding_length (${hiddenSize}) as long as attention.key_length is not given`,
    );
  const headSize = keyLength ?? hiddenSize / queryHeads;
  const valueLength = fields.count(key("attention.value_length"), headSize);
  if (valueLength !== headSize) fields.fail(key("attention.value_length"), `the key length (${headSize})`);

  const maxPositions = fields.count(key("context_length"));
  const rope = ropeFromGguf(fields, { architecture: architecture!, headSize, maxPositions }, tensors);
  const vocabSize = vocabSizeOf(fields, tensors);
  const has = (name: string) => tensors.has(name);
  return {
    modelType: architecture!,
    vocabSize,
    hiddenSize,
    layerCount,
    queryHeads,
    keyHeads,
    headSize,
    feedForwardSize: fields.count(key("feed_forward_length")),
    norm: { kind: "rms", epsilon: fields.positive(key("attention.layer_norm_rms_epsilon")) },
    feedForward: "gated",
    experts: expertsOf(fields, key),
    activation: architecture === "gemma2" ? "gelu-tanh" : "silu",
    position: "rope",
    rope,
    bias: {
      query: has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias"),
      key: has("blk.0.attn_k.bias") || has("blk.0.attn_qkv.bias"),
      value: has("blk.0.attn_v.bias") || has("blk.0.attn_qkv.bias"),
      output: has("blk.0.attn_output.bias"),
      feedForward: has("blk.0.ffn_down.bias"),
    },
    queryKeyNorm: architecture === "qwen3" || architecture === "qwen3moe",
    tiedEmbedding: !has("output.weight"),
    logitSoftCap: capOf(fields, key("final_logit_softcapping"), architecture === "gemma2" ? 30 : undefined),
    attentionSoftCap: capOf(fields, key("attn_logit_softcapping"), architecture === "gemma2" ? 50 : undefined),
    ...(architecture === "gemma2" ? gemmaScales({ layerCount, hiddenSize, queryHeads, headSize }) : {}),
    slidingWindows: slidingWindowsOf(fields, key, layerCount, architecture === "gemma2"),
    maxPositions,
    trainedWindow: trainedWindowOf(rope, maxPositions),
    specialTokens: {
      bos: tokenOf(fields, "bos", vocabSize),
      eos: [
        ...new Set(["eos", "eot", "eom"].map((name) => tokenOf(fields, name, vocabSize)).filter((id) => id !== null)),
      ],
      pad: tokenOf(fields, "padding", vocabSize),
    },
  };
}

function checkSupported(fields: Fields, key: (name: string) => string): void {
  if (fields.count("split.count", 1, { min: 0 }) > 1)
    fields.fail("split.count", "1: longctx reads whole files. Merge the parts (llama-gguf-split --merge)");
  for (const [name, neutral] of Object.entries(NEUTRAL_VALUES)) {
    const value = fields.get(key(name));
    if (value !== undefined && value !== neutral)
      fields.fail(key(name), `${String(neutral)} or left out; longctx has no such model`);
  }
}

/** `renormalise` is true because llama.cpp always divides the router's weights of the chosen experts by their sum. */
function expertsOf(fields: Fields, key: (name: string) => string): ExpertsConfig | undefined {
  const count = fields.count(key("expert_count"), 0, { min: 0, max: MAX_EXPERTS });
  if (count === 0) return undefined;
  const perToken = fields.count(key("expert_used_count"));
  if (perToken > count) fields.fail(key("expert_used_count"), `at most the number of experts (${count})`);
  const whole = fields.count(key("feed_forward_length"));
  const feedForwardSize = fields.count(key("expert_feed_forward_length"), whole);
  return { count, perToken, feedForwardSize, renormalise: true };
}

/** A soft cap; the value 0 means none. */
function capOf(fields: Fields, name: string, missing: number | undefined): number | undefined {
  return fields.get(name) === 0 ? undefined : (fields.optionalPositive(name) ?? missing);
}

/**
 * What Gemma 2 computes and its GGUF files do not say. Attention scores are scaled by 1/√D; the model of 46 layers
 * (27B) scales them by 1/√(hidden size / H) instead.
 */
function gemmaScales(
  model: Pick<ModelConfig, "layerCount" | "hiddenSize" | "queryHeads" | "headSize">,
): Partial<ModelConfig> {
  const { layerCount, hiddenSize, queryHeads, headSize } = model;
  return {
    postNorms: true,
    embeddingScale: Math.fround(Math.sqrt(hiddenSize)),
    attentionScale: 1 / Math.sqrt(layerCount === 46 ? hiddenSize / queryHeads : headSize),
  };
}

/** V is the number of rows of the embedding, padding included; the tokenizer may have fewer tokens. */
function vocabSizeOf(fields: Fields, tensors: GgufFile["tensors"]): number {
  const rows = tensors.get("token_embd.weight")?.shape[0];
  const tokens = fields.get("tokenizer.ggml.tokens");
  if (rows !== undefined && Array.isArray(tokens) && tokens.length > rows) {
    return fields.fail(
      "tokenizer.ggml.tokens",
      `a list of at most ${rows} tokens, the rows of token_embd.weight; it has ${tokens.length}`,
    );
  }
  return (
    rows ??
    (Array.isArray(tokens)
      ? tokens.length
      : fields.fail("tokenizer.ggml.tokens", "given: the file has no token_embd.weight either"))
  );
}

/**
 * The sliding window of each layer in tokens, null for full attention; a window of 0 means none. A pattern says which
 * layers have the window; Gemma 2 has it in every second layer, and its files do not say so.
 */
function slidingWindowsOf(
  fields: Fields,
  key: (name: string) => string,
  layerCount: number,
  everySecond: boolean,
): (number | null)[] {
  const window = fields.count(key("attention.sliding_window"), everySecond ? 4096 : 0, { min: 0 }) || null;
  const pattern = window === null ? undefined : fields.get(key("attention.sliding_window_pattern"));
  if (pattern === undefined)
    return Array.from({ length: layerCount }, (_, layer) => (everySecond && layer % 2 === 1 ? null : window));
  if (
    !Array.isArray(pattern) ||
    pattern.length !== layerCount ||
    !pattern.every((bounded) => typeof bounded === "boolean")
  ) {
    return fields.fail(
      key("attention.sliding_window_pattern"),
      `a list of ${layerCount} times true or false, one for each layer`,
    );
  }
  return pattern.map((bounded) => (bounded ? window : null));
}

function tokenOf(fields: Fields, name: string, vocabSize: number): number | null {
  const id = fields.optionalCount(`tokenizer.ggml.${name}_token_id`, { min: 0, max: 2 ** 32 - 1 });
  return id === undefined || id >= vocabSize ? null : id;
}

/**
 * Head counts and feed-forward sizes may be arrays of a value for each layer; an array of equal values becomes that
 * value.
 */
function withUniformArrays(metadata: GgufFile["metadata"]): Record<string, unknown> {
  return Object.fromEntries(
    [...metadata].map(([name, value]) => {
      if (!ArrayBuffer.isView(value) || !/\.(head_count|head_count_kv|feed_forward_length)$/.test(name))
        return [name, value];
      const items = [...(value as Iterable<number>)];
      return [name, items.length > 0 && items.every((item) => item === items[0]) ? items[0] : items];
    }),
  );
}
