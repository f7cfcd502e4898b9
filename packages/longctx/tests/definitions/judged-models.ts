import { Weights, type ModelConfig, type WeightTensor } from "@longctx/core";
import { randomNumbers, tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { readGolden } from "../read-golden.ts";
import { readLlama, remembered, type Llama } from "./dense-llama.ts";
import { goldenFolder } from "./judge.ts";

/** A decoder as the judge sees it and as a backend takes it. */
export interface JudgedModel {
  readonly name: string;
  readonly llama: Llama;
  readonly config: ModelConfig;
  readonly weights: Weights;
}

export async function goldenModel(name: string): Promise<JudgedModel> {
  const { config, weights } = await readGolden(name);
  return { name, llama: readLlama(goldenFolder(name)), config, weights };
}

/** A random decoder of two layers with 3 key heads for 6 query heads, of sizes that every kernel takes. */
export function randomModel(
  name = "3 key heads of 6, random",
  changes: Parameters<typeof tinyConfig>[0] = {},
): JudgedModel {
  const config = tinyConfig({
    queryHeads: 6,
    keyHeads: 3,
    headSize: 8,
    rope: { type: "default", base: 100, rotarySize: 8 },
    maxPositions: 512,
    ...changes,
  });
  const weights = tinyWeights(config, 3);
  return { name, llama: llamaOf(config, weights), config, weights };
}

const known = new WeakMap<JudgedModel, Map<string, unknown>>();

/** What is computed of a model once for all devices. */
export function once<T>(model: JudgedModel, key: string, compute: () => T): T {
  if (!known.has(model)) known.set(model, new Map());
  const results = known.get(model)!;
  if (!results.has(key)) results.set(key, compute());
  return results.get(key) as T;
}

/** A random text for a model. */
export function randomText(model: JudgedModel, length: number, seed: number): number[] {
  const random = randomNumbers(seed);
  return Array.from({ length }, () => Math.floor(random() * model.config.vocabSize));
}

/** A random text in which no token is twice. */
export function distinctText(model: JudgedModel, length: number, seed: number): number[] {
  const random = randomNumbers(seed);
  const all = Array.from({ length: model.config.vocabSize }, (_, id) => ({ id, place: random() }));
  return all.sort((a, b) => a.place - b.place).flatMap(({ id }, i) => (i < length ? [id] : []));
}

/** The weights with what a checkpoint learned for a method, a vector a layer. */
export function withLearned(
  weights: Weights,
  name: string,
  layers: readonly (readonly number[])[] | ReadonlyMap<number, readonly number[]>,
): Weights {
  const learned = [...layers.entries()].map(([layer, values]): [string, WeightTensor] => {
    const floats = Float32Array.from(values);
    const tensor = `layers.${layer}.method.${name}`;
    const bytes = () => new Uint8Array(floats.slice().buffer);
    return [tensor, { name: tensor, type: "F32", shape: [values.length], bytes, toFloat32: () => floats.slice() }];
  });
  return new Weights(new Map([...[...weights.names()].map((key) => [key, weights.find(key)!] as const), ...learned]));
}

const CANONICAL: Readonly<Record<string, string>> = {
  "model.embed_tokens": "embedding",
  "model.norm": "finalNorm",
  lm_head: "head",
  input_layernorm: "attentionNorm",
  "self_attn.q_proj": "query",
  "self_attn.k_proj": "key",
  "self_attn.v_proj": "value",
  "self_attn.o_proj": "output",
  post_attention_layernorm: "feedForwardNorm",
  "mlp.gate_proj": "gate",
  "mlp.up_proj": "up",
  "mlp.down_proj": "down",
};

/** A model under canonical names, read by the judge under those of a file. */
export function llamaOf(config: ModelConfig, weights: Weights): Llama {
  return {
    hiddenSize: config.hiddenSize,
    queryHeads: config.queryHeads,
    keyHeads: config.keyHeads,
    headSize: config.headSize,
    rotarySize: config.rope.rotarySize,
    feedForwardSize: config.feedForwardSize,
    vocabSize: config.vocabSize,
    maxPositions: config.maxPositions,
    layers: config.layerCount,
    epsilon: config.norm.epsilon,
    base: config.rope.base,
    slidingWindow: Infinity,
    activation: (x) => x / (1 + Math.exp(-x)),
    queryKeyNorm: false,
    tensor: remembered((name) => {
      const [, layer = "", key] = /^(?:model\.(layers\.\d+\.))?(.*)\.weight$/.exec(name)!;
      return weights.find(`${layer}${CANONICAL[key]}`)!.toFloat32();
    }),
  };
}
