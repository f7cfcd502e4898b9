import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { checkpointFrequencies, type ModelConfig } from "@longctx/core";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../src/checkpoint/disk.ts";
import { dequantise } from "../src/tensor/dequantise.ts";
import { buildGguf, floats } from "./gguf-builder.ts";
import {
  convertedMetadata,
  convertedTensors,
  goldenFolder,
  interleaved,
  type RawTensor,
  rawTensors,
  readConfig,
  stackedExperts,
} from "./model-files.ts";
import { buildSafetensors } from "./safetensors-builder.ts";
import { expectSameBits, refusalOf, scratchFolder } from "./scratch.ts";

const scratch = scratchFolder();
const folders = readdirSync(goldenFolder("")).filter((name) => existsSync(join(goldenFolder(name), "config.json")));

const HUGGING_FACE: Readonly<Record<string, string>> = {
  attentionNorm: "input_layernorm", feedForwardNorm: "post_attention_layernorm", query: "self_attn.q_proj", key: "self_attn.k_proj", value: "self_attn.v_proj",
  output: "self_attn.o_proj", queryNorm: "self_attn.q_norm", keyNorm: "self_attn.k_norm", gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
}; // prettier-ignore

const GEMMA_NORMS: Readonly<Record<string, string>> = {
  attentionNorm: "input_layernorm",
  attentionPostNorm: "post_attention_layernorm",
  feedForwardNorm: "pre_feedforward_layernorm",
  feedForwardPostNorm: "post_feedforward_layernorm",
};

/** The values a canonical name stands for, straight from the file. */
function expectedValues(
  raw: ReadonlyMap<string, RawTensor>,
  name: string,
  config: ModelConfig,
): Float32Array | undefined {
  const outer: Record<string, string> = {
    embedding: "model.embed_tokens.weight",
    finalNorm: "model.norm.weight",
    head: "lm_head.weight",
  };
  // Gemma's gains are stored without the 1.
  if (config.modelType === "gemma2" && name.endsWith("Norm")) {
    const [, layer, part] = /^(?:layers\.(\d+)\.)?(\w+)$/.exec(name)!;
    const own = layer === undefined ? "model.norm" : `model.layers.${layer}.${GEMMA_NORMS[part]}`;
    return raw.get(`${own}.weight`)?.values.map((value) => 1 + value);
  }
  if (Object.hasOwn(outer, name)) return raw.get(outer[name])?.values;
  const [, layer, , expert, part, bias] = /^layers\.(\d+)\.(experts\.(\d+)\.)?(\w+?)(\.bias)?$/.exec(name)!;
  const prefix = `model.layers.${layer}.`;
  if (expert !== undefined || part === "router") {
    const mixture = config.modelType === "mixtral" ? `${prefix}block_sparse_moe.` : `${prefix}mlp.`;
    if (part === "router") return raw.get(`${mixture}gate.weight`)?.values;
    const own = config.modelType === "mixtral" ? { gate: "w1", up: "w3", down: "w2" }[part] : `${part}_proj`;
    return raw.get(`${mixture}experts.${expert}.${own}.weight`)?.values;
  }
  const own = raw.get(`${prefix}${HUGGING_FACE[part]}.${bias ? "bias" : "weight"}`);
  if (own) return own.values;
  const { hiddenSize, headSize, queryHeads, keyHeads, feedForwardSize } = config;
  const [query, key] = [queryHeads * headSize, keyHeads * headSize];
  const rows: Record<string, [string, number, number]> = {
    query: ["self_attn.qkv_proj", 0, query],
    key: ["self_attn.qkv_proj", query, query + key],
    value: ["self_attn.qkv_proj", query + key, query + 2 * key],
    gate: ["mlp.gate_up_proj", 0, feedForwardSize],
    up: ["mlp.gate_up_proj", feedForwardSize, 2 * feedForwardSize],
  };
  const [fused, from, to] = rows[part];
  return raw.get(`${prefix}${fused}.weight`)?.values.subarray(from * hiddenSize, to * hiddenSize);
}

describe("a folder in Hugging Face's layout", () => {
  test("there are golden ones", () => expect(folders.length).toBeGreaterThan(8));

  test.each(folders)("%s: every weight under its canonical name", async (folder) => {
    const path = goldenFolder(folder);
    const checkpoint = await openCheckpoint(path);
    const { config, weights } = checkpoint;
    expect(checkpoint).toMatchObject({ path, format: "safetensors", tokenizer: null, chatTemplate: null });
    expect(config.modelType).toBe(readConfig(path).model_type);
    expect(weights.find("head") === undefined).toBe(config.tiedEmbedding);
    const raw = rawTensors(path);
    let values = 0;
    for (const name of weights.names()) {
      const tensor = weights.find(name)!;
      expectSameBits(tensor.toFloat32(), expectedValues(raw, name, config), name);
      values += tensor.shape.reduce((product, size) => product * size, 1);
    }
    const stored = [...raw].filter(([name]) => !(config.tiedEmbedding && name === "lm_head.weight"));
    expect(values).toBe(stored.reduce((sum, [, tensor]) => sum + tensor.values.length, 0));
    checkpoint.close();
    expect(() => weights.find("embedding")!.bytes()).toThrow("was closed");
  });

  test("with a tokenizer beside it", async () => {
    const { tokenizer, config, close } = await openCheckpoint(join(import.meta.dirname, "../../tiny/model"));
    expect(tokenizer!.vocabSize).toBe(config.vocabSize);
    expect(tokenizer!.decode(tokenizer!.encode("the harbour is quiet."))).toContain("the harbour is quiet.");
    close();
  });

  test("a file beside its config, and another trained window", async () => {
    const whole = await openCheckpoint(join(goldenFolder("llama"), "model.safetensors"), { trainedWindow: 48 });
    expect(whole.config.trainedWindow).toBe(48);
    expect(whole.config.maxPositions).toBe(64);
    whole.close();
    expect(await refusalOf(() => openCheckpoint(goldenFolder("llama"), { trainedWindow: 0.5 }))).toMatchObject({
      code: "argument",
    });
  });

  test.each(["mixtral", "qwen3-moe"])("%s with its experts stacked, as transformers 5 keeps them", async (name) => {
    const source = goldenFolder(name);
    const folder = join(scratch.path, `${name}-stacked`);
    mkdirSync(folder);
    copyFileSync(join(source, "config.json"), join(folder, "config.json"));
    const apart = [...rawTensors(source)]
      .filter(([written]) => !written.includes(".experts."))
      .map(([written, { shape, values }]) => ({
        name: written.replace("block_sparse_moe", "mlp"),
        shape,
        bytes: floats(values),
      }));
    const all = [...apart, ...stackedExperts(source, "transformers")];
    const write = (tensors: typeof all) =>
      writeFileSync(
        join(folder, "model.safetensors"),
        buildSafetensors(
          Object.fromEntries(tensors.map(({ name: own, shape, bytes }) => [own, { dtype: "F32", shape, bytes }])),
        ),
      );
    write(all);
    const [stacked, original] = await Promise.all([openCheckpoint(folder), openCheckpoint(source)]);
    expect([...stacked.weights.names()].sort()).toEqual([...original.weights.names()].sort());
    for (const weight of original.weights.names())
      expectSameBits(stacked.weights.find(weight)!.toFloat32(), original.weights.find(weight)!.toFloat32(), weight);
    stacked.close();
    original.close();
    const last = all[all.length - 1];
    write([...all.slice(0, -1), { ...last, shape: [last.shape[0], last.shape[2], last.shape[1]] }]);
    expect(await refusalOf(() => openCheckpoint(folder))).toMatchObject({ code: "file" });
  });

  test("in shards, opened by the folder or by one of them", async () => {
    const source = goldenFolder("qwen3");
    const folder = join(scratch.path, "shards");
    mkdirSync(folder);
    copyFileSync(join(source, "config.json"), join(folder, "config.json"));
    const map: Record<string, string> = {};
    const parts = [new Map(), new Map()] as Map<
      string,
      { dtype: string; shape: readonly number[]; bytes: Uint8Array }
    >[];
    [...rawTensors(source)].forEach(([name, { shape, values }], i) => {
      map[name] = `model-0000${(i % 2) + 1}-of-00002.safetensors`;
      parts[i % 2].set(name, { dtype: "F32", shape, bytes: floats(values) });
    });
    parts.forEach((part, i) =>
      writeFileSync(
        join(folder, `model-0000${i + 1}-of-00002.safetensors`),
        buildSafetensors(Object.fromEntries(part)),
      ),
    );
    writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map: map }));
    for (const path of [folder, join(folder, "model-00002-of-00002.safetensors")]) {
      const checkpoint = await openCheckpoint(path);
      expectSameBits(
        checkpoint.weights.find("layers.2.keyNorm")!.toFloat32(),
        rawTensors(source).get("model.layers.2.self_attn.k_norm.weight")?.values,
      );
      checkpoint.close();
    }
  });
});

describe("a GGUF file", () => {
  test.each([
    ["llama", "llama"],
    ["llama-bias", "llama"],
    ["llama-mha-tied", "llama"],
    ["qwen2", "qwen2"],
    ["qwen3", "qwen3"],
    ["mixtral", "llama"],
    ["qwen3-moe", "qwen3moe"],
    ["gemma2", "gemma2"],
    ["phi3-rope-longrope", "phi3"],
  ])("%s converted has the weights of its folder", async (name, architecture) => {
    const folder = goldenFolder(name);
    const original = await openCheckpoint(folder);
    const rope = original.config.rope;
    const factors = rope.shortFactors
      ? [
          { name: "rope_factors_short.weight", shape: [8], type: 0, bytes: floats(rope.shortFactors) },
          { name: "rope_factors_long.weight", shape: [8], type: 0, bytes: floats(rope.longFactors!) },
        ]
      : [];
    const metadata = {
      ...convertedMetadata(folder, architecture),
      ...(rope.originalMaxPositions
        ? { [`${architecture}.rope.scaling.original_context_length`]: { u32: rope.originalMaxPositions } }
        : {}),
    };
    const converted = await openCheckpoint(
      scratch.write(
        `${name}.gguf`,
        buildGguf({ metadata, tensors: [...convertedTensors(folder, architecture), ...factors] }),
      ),
    );

    expect(converted).toMatchObject({ format: "gguf", tokenizer: null, chatTemplate: null });
    const { norm, rope: convertedRope, ...described } = converted.config;
    // Files do not say how the weights of experts are scaled (llama.cpp makes their sum 1), nor what scale scores have.
    const untold = {
      modelType: ["mixtral", "qwen3_moe"].includes(original.config.modelType)
        ? architecture
        : original.config.modelType,
      experts: original.config.experts && { ...original.config.experts, renormalise: true },
      attentionScale: architecture === "gemma2" ? 1 / Math.sqrt(original.config.headSize) : undefined,
    };
    expect(described).toEqual({ ...original.config, ...untold, norm: undefined, rope: undefined });
    expect(norm.epsilon).toBeCloseTo(original.config.norm.epsilon, 10);
    for (const length of [40, 160]) {
      const [table, expected] = [convertedRope, rope].map((one) =>
        checkpointFrequencies(one, original.config.maxPositions, length),
      );
      table.inverse.forEach((frequency, i) => expect(frequency / expected.inverse[i]).toBeCloseTo(1, 6));
      expect(table.amplitude).toBeCloseTo(expected.amplitude, 6);
    }
    expect([...converted.weights.names()].sort()).toEqual([...original.weights.names()].sort());
    for (const weight of original.weights.names())
      expectSameBits(converted.weights.find(weight)!.toFloat32(), original.weights.find(weight)!.toFloat32(), weight);
    converted.close();
    original.close();
  });

  test("quantised rows move as they are stored", async () => {
    const folder = goldenFolder("llama");
    const packed = Uint8Array.from({ length: 64 * 68 }, (_, i) => (i % 34 === 1 ? 0x2c : (i * 37) % 251));
    const tensors = convertedTensors(folder, "llama").map((tensor) =>
      tensor.name === "blk.1.attn_q.weight" ? { ...tensor, type: 8, bytes: packed } : tensor,
    );
    const { weights, close } = await openCheckpoint(
      scratch.write("q8.gguf", buildGguf({ metadata: convertedMetadata(folder, "llama"), tensors })),
    );
    const query = weights.find("layers.1.query")!;
    expect(query).toMatchObject({ type: "Q8_0", shape: [64, 64], name: "blk.1.attn_q.weight" });
    expectSameBits(interleaved(query.toFloat32(), 64, 4), dequantise("Q8_0", packed));
    expectSameBits(dequantise("Q8_0", query.bytes()), query.toFloat32());
    expect(Buffer.concat([query.rows!(0, 9), query.rows!(9, 64)])).toEqual(Buffer.from(query.bytes()));
    close();
  });

  test("quantised rows of fused tensors are taken apart as they are stored", async () => {
    const folder = goldenFolder("phi3-rope-longrope");
    const packed = Uint8Array.from({ length: 256 * 36 }, (_, i) => (i % 18 === 1 ? 0x2c : (i * 41) % 251));
    const tensors = convertedTensors(folder, "phi3").map((tensor) =>
      tensor.name === "blk.0.ffn_up.weight" ? { ...tensor, type: 2, bytes: packed } : tensor,
    );
    const { weights, close } = await openCheckpoint(
      scratch.write("q4.gguf", buildGguf({ metadata: convertedMetadata(folder, "phi3"), tensors })),
    );
    const [gate, up] = [weights.find("layers.0.gate")!, weights.find("layers.0.up")!];
    expect(gate).toMatchObject({ type: "Q4_0", shape: [128, 64], name: "blk.0.ffn_up.weight[0:128]" });
    expect(Buffer.concat([gate.bytes(), up.bytes()])).toEqual(Buffer.from(packed));
    expect(Buffer.from(up.rows!(127, 128))).toEqual(Buffer.from(packed.subarray(255 * 36)));
    expectSameBits(Float32Array.of(...gate.toFloat32(), ...up.toFloat32()), dequantise("Q4_0", packed));
    close();
  });

  const smolLm2 = process.env["LONGCTX_SMOLLM2"];
  test.skipIf(!smolLm2)("SmolLM2-135M", async () => {
    const { config, weights, tokenizer, chatTemplate, close } = await openCheckpoint(smolLm2!);
    expect(config).toMatchObject({
      vocabSize: 49_152,
      hiddenSize: 576,
      layerCount: 30,
      queryHeads: 9,
      keyHeads: 3,
      headSize: 64,
      tiedEmbedding: true,
      trainedWindow: 8192,
      rope: { type: "default", base: 100_000 },
    });
    expect(weights.find("layers.29.down")).toMatchObject({ type: "Q4_1", shape: [576, 1536] });
    expect(weights.find("embedding")).toMatchObject({ type: "Q8_0", shape: [49_152, 576] });
    expect(tokenizer).not.toBeNull();
    expect(chatTemplate).not.toBeNull();
    close();
  });
});
