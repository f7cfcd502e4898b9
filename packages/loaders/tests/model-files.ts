import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type BuiltTensor, floats, type Written } from "./gguf-builder.ts";

const GOLDEN = new URL("../../longctx/tests/golden/", import.meta.url);

export function goldenFolder(name: string): string {
  return fileURLToPath(new URL(name, GOLDEN));
}

export interface RawTensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** A safetensors file of F32 tensors, read without the package under test. */
export function rawTensors(folder: string): Map<string, RawTensor> {
  const file = readFileSync(`${folder}/model.safetensors`);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, RawTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: [from, to] } = entry; // prettier-ignore
    if (dtype !== "F32") throw new Error(`${name} is ${dtype}`);
    tensors.set(name, {
      shape,
      values: new Float32Array(new Uint8Array(file.subarray(start + from, start + to)).buffer),
    });
  }
  return tensors;
}

export type GoldenConfig = Readonly<Record<string, number>> & {
  readonly model_type: string;
  readonly rope_parameters: { readonly rope_theta: number };
};

export function readConfig(folder: string): GoldenConfig {
  return JSON.parse(readFileSync(`${folder}/config.json`, "utf8")) as GoldenConfig;
}

const GGUF_NAMES: Readonly<Record<string, string>> = {
  "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
  "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv",
  "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up", "mlp.gate": "ffn_gate_inp", "block_sparse_moe.gate": "ffn_gate_inp",
  input_layernorm: "attn_norm", post_attention_layernorm: "ffn_norm",
}; // prettier-ignore
/** Gemma 2's norms, to which the converter adds 1. */
const GEMMA_NAMES: Readonly<Record<string, string>> = {
  ...GGUF_NAMES,
  post_attention_layernorm: "post_attention_norm",
  pre_feedforward_layernorm: "ffn_norm",
  post_feedforward_layernorm: "post_ffw_norm",
};
const GGUF_OUTER: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

/** The tensors of a golden checkpoint as llama.cpp's converter writes them. */
export function convertedTensors(folder: string, architecture: string): BuiltTensor[] {
  const config = readConfig(folder);
  const tensors: BuiltTensor[] = [];
  for (const [name, { shape, values }] of rawTensors(folder)) {
    if (name.includes(".experts.")) continue;
    const [, layer, part, kind] = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
    const names = architecture === "gemma2" ? GEMMA_NAMES : GGUF_NAMES;
    const written = layer === undefined ? GGUF_OUTER[name] : `blk.${layer}.${names[part]}.${kind}`;
    const heads =
      part === "self_attn.q_proj"
        ? config["num_attention_heads"]
        : part === "self_attn.k_proj"
          ? config["num_key_value_heads"]
          : 0;
    const whole = architecture === "gemma2" && written.includes("norm") ? values.map((value) => 1 + value) : values;
    const ordered = architecture === "llama" && heads > 0 ? interleaved(values, shape[0], heads) : whole;
    tensors.push({ name: written, shape, type: 0, bytes: floats(ordered) });
  }
  return [...tensors, ...stackedExperts(folder, "gguf")];
}

type StackedTensor = BuiltTensor & { readonly shape: readonly number[] };

/** The experts' matrices, all of a kind in one tensor, under the names that llama.cpp or transformers 5 gives them. */
export function stackedExperts(folder: string, names: "gguf" | "transformers"): StackedTensor[] {
  const { num_hidden_layers: layers, num_local_experts: count } = readConfig(folder);
  const raw = rawTensors(folder);
  const kinds: Record<string, [string, string]> = {
    gate: ["w1", "gate_proj"],
    up: ["w3", "up_proj"],
    down: ["w2", "down_proj"],
  };
  const matrix = (layer: number, expert: number, kind: string): RawTensor => {
    const [mixtral, qwen] = kinds[kind];
    const at = `model.layers.${layer}.`;
    return (raw.get(`${at}block_sparse_moe.experts.${expert}.${mixtral}.weight`) ?? raw.get(`${at}mlp.experts.${expert}.${qwen}.weight`))!; // prettier-ignore
  };
  const stack = (name: string, layer: number, parts: readonly string[]): StackedTensor => {
    const all = Array.from({ length: count }, (_, expert) => parts.map((part) => matrix(layer, expert, part)));
    const [rows, columns] = all[0][0].shape;
    const values = Float32Array.from(all.flat().flatMap((one) => [...one.values]));
    return { name, shape: [count, parts.length * rows, columns], type: 0, bytes: floats(values) };
  };
  return Array.from({ length: count ? layers : 0 }, (_, layer) =>
    names === "gguf"
      ? ["gate", "up", "down"].map((part) => stack(`blk.${layer}.ffn_${part}_exps.weight`, layer, [part]))
      : [
          stack(`model.layers.${layer}.mlp.experts.gate_up_proj`, layer, ["gate", "up"]),
          stack(`model.layers.${layer}.mlp.experts.down_proj`, layer, ["down"]),
        ],
  ).flat();
}

/** reshape(heads, 2, D/2, …).swapaxes(1, 2) of the rows. */
export function interleaved(values: Float32Array, rows: number, heads: number): Float32Array {
  const [size, half] = [values.length / rows, rows / heads / 2];
  const out = new Float32Array(values.length);
  for (let head = 0; head < heads; head++)
    for (let part = 0; part < 2; part++)
      for (let pair = 0; pair < half; pair++) {
        const from = ((head * 2 + part) * half + pair) * size;
        out.set(values.subarray(from, from + size), ((head * half + pair) * 2 + part) * size);
      }
  return out;
}

/** What a converter writes of a golden checkpoint's config, without its rotary scaling and its tokenizer. */
export function convertedMetadata(folder: string, architecture: string): Record<string, Written> {
  const config = readConfig(folder);
  const key = (name: string) => `${architecture}.${name}`;
  const experts = config["num_local_experts"]
    ? {
        [key("expert_count")]: { u32: config["num_local_experts"] },
        [key("expert_used_count")]: { u32: config["num_experts_per_tok"] },
        [key("expert_feed_forward_length")]: { u32: config["moe_intermediate_size"] ?? config["intermediate_size"] },
      }
    : {};
  const gemma =
    architecture === "gemma2"
      ? {
          [key("attention.sliding_window")]: { u32: config["sliding_window"] },
          [key("attn_logit_softcapping")]: { f32: config["attn_logit_softcapping"] },
          [key("final_logit_softcapping")]: { f32: config["final_logit_softcapping"] },
        }
      : {};
  return {
    ...experts,
    ...gemma,
    "general.architecture": { text: architecture },
    [key("block_count")]: { u32: config["num_hidden_layers"] },
    [key("context_length")]: { u32: config["max_position_embeddings"] },
    [key("embedding_length")]: { u32: config["hidden_size"] },
    [key("feed_forward_length")]: { u32: config["intermediate_size"] },
    [key("attention.head_count")]: { u32: config["num_attention_heads"] },
    [key("attention.head_count_kv")]: { u32: config["num_key_value_heads"] },
    [key("attention.layer_norm_rms_epsilon")]: { f32: config["rms_norm_eps"] },
    [key("rope.freq_base")]: { f32: config.rope_parameters.rope_theta },
    "tokenizer.ggml.bos_token_id": { u32: 1 },
    "tokenizer.ggml.eos_token_id": { u32: 2 },
    "tokenizer.ggml.padding_token_id": { u32: 0 },
  };
}
