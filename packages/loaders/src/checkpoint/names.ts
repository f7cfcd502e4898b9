/** What a tensor's name in a file stands for: one weight of the core, or several that are stored in one tensor. */
export interface CanonicalName {
  /** Null for embedding, final norm and head, which belong to no layer. */
  readonly layer: number | null;
  /** The index of the expert in a mixture of experts, else null. */
  readonly expert: number | null;
  readonly part: Part;
  readonly bias: boolean;
}

/**
 * The parts of the core's Weights, Phi-3's fused matrices, matrices of all experts stacked, and parameters of methods.
 */
export type Part =
  | "embedding" | "finalNorm" | "head" | "attentionNorm" | "query" | "key" | "value" | "output" | "queryNorm" | "keyNorm"
  | "feedForwardNorm" | "gate" | "up" | "down" | "queryKeyValue" | "gateUp"
  | "attentionPostNorm" | "feedForwardPostNorm" | "router" | "gateExperts" | "upExperts" | "downExperts" | "gateUpExperts"
  | "method.infini_gate" | "method.knn_gate" | "method.knn_scale"; // prettier-ignore

const HUGGING_FACE_OUTER: Readonly<Record<string, Part>> = {
  embed_tokens: "embedding",
  norm: "finalNorm",
  lm_head: "head",
};

const HUGGING_FACE_INNER: Readonly<Record<string, Part>> = {
  input_layernorm: "attentionNorm",
  "self_attn.q_proj": "query",
  "self_attn.k_proj": "key",
  "self_attn.v_proj": "value",
  "self_attn.o_proj": "output",
  "self_attn.q_norm": "queryNorm",
  "self_attn.k_norm": "keyNorm",
  "self_attn.qkv_proj": "queryKeyValue",
  post_attention_layernorm: "feedForwardNorm",
  "mlp.gate_proj": "gate",
  "mlp.up_proj": "up",
  "mlp.down_proj": "down",
  "mlp.gate_up_proj": "gateUp",
  // Experts have one matrix each in published checkpoints, and a stacked tensor in what transformers 5 saves.
  "block_sparse_moe.gate": "router",
  "block_sparse_moe.experts.*.w1": "gate",
  "block_sparse_moe.experts.*.w3": "up",
  "block_sparse_moe.experts.*.w2": "down",
  "mlp.gate": "router",
  "mlp.experts.*.gate_proj": "gate",
  "mlp.experts.*.up_proj": "up",
  "mlp.experts.*.down_proj": "down",
  "mlp.experts.gate_up_proj": "gateUpExperts",
  "mlp.experts.down_proj": "downExperts",
  // Trained parameters of methods, one value for each query head.
  "self_attn.infini_gate": "method.infini_gate",
  "self_attn.knn_gate": "method.knn_gate",
  "self_attn.knn_scale": "method.knn_scale",
};

/**
 * Gemma 2 normalises before and after each block: its `post_attention_layernorm` follows the attention, where other
 * architectures use that name for the norm before the feed-forward network.
 */
const GEMMA_INNER: Readonly<Record<string, Part>> = {
  ...HUGGING_FACE_INNER,
  post_attention_layernorm: "attentionPostNorm",
  pre_feedforward_layernorm: "feedForwardNorm",
  post_feedforward_layernorm: "feedForwardPostNorm",
};

const GGUF_OUTER: Readonly<Record<string, Part>> = {
  token_embd: "embedding",
  output_norm: "finalNorm",
  output: "head",
};

const GGUF_INNER: Readonly<Record<string, Part>> = {
  attn_norm: "attentionNorm",
  attn_q: "query",
  attn_k: "key",
  attn_v: "value",
  attn_output: "output",
  attn_q_norm: "queryNorm",
  attn_k_norm: "keyNorm",
  attn_qkv: "queryKeyValue",
  ffn_norm: "feedForwardNorm",
  ffn_gate: "gate",
  ffn_up: "up",
  ffn_down: "down",
  post_attention_norm: "attentionPostNorm",
  post_ffw_norm: "feedForwardPostNorm",
  ffn_gate_inp: "router",
  ffn_gate_exps: "gateExperts",
  ffn_up_exps: "upExperts",
  ffn_down_exps: "downExperts",
  // The first GGUF files with experts hold one tensor for each expert.
  "ffn_gate.*": "gate",
  "ffn_up.*": "up",
  "ffn_down.*": "down",
};

/** The parts that may have a bias. */
const BIASED: ReadonlySet<Part> = new Set([
  "query",
  "key",
  "value",
  "output",
  "gate",
  "up",
  "down",
  "queryKeyValue",
  "gateUp",
]);

/** Names of tensors that checkpoints store without `.weight` behind them. */
const BARE = /\.(mlp\.experts\.(gate_up_proj|down_proj)|self_attn\.(infini_gate|knn_gate|knn_scale))$/;

/**
 * The meaning of a name in a safetensors file, such as `model.layers.0.self_attn.q_proj.weight`, with or without
 * `model.` before it; null for a tensor that no architecture of longctx has.
 */
export function fromHuggingFaceName(name: string, modelType: string): CanonicalName | null {
  return parse(
    BARE.test(name) ? `${name}.weight` : name,
    /^(?:model\.)?layers\.(\d{1,6})\.(.+)\.(weight|bias)$/,
    /^(?:model\.)?(\w+)\.(weight|bias)$/,
    modelType === "gemma2" ? GEMMA_INNER : HUGGING_FACE_INNER,
    HUGGING_FACE_OUTER,
  );
}

/**
 * The meaning of a name in a GGUF file, such as `blk.0.attn_q.weight`; null for a tensor that no architecture of
 * longctx has.
 */
export function fromGgufName(name: string): CanonicalName | null {
  return parse(name, /^blk\.(\d{1,6})\.(.+)\.(weight|bias)$/, /^(\w+)\.(weight|bias)$/, GGUF_INNER, GGUF_OUTER);
}

function parse(
  name: string,
  inner: RegExp,
  outer: RegExp,
  innerParts: Readonly<Record<string, Part>>,
  outerParts: Readonly<Record<string, Part>>,
): CanonicalName | null {
  const inside = inner.exec(name);
  const outside = inside ? null : outer.exec(name);
  const [parts, written, kind] = inside ? [innerParts, inside[2], inside[3]] : [outerParts, outside?.[1], outside?.[2]];
  if (written === undefined) return null;
  const number = /(?<=\.)\d{1,6}(?=\.|$)/.exec(written)?.[0];
  const known = number === undefined ? written : written.replace(`.${number}`, ".*");
  if (!Object.hasOwn(parts, known)) return null;
  const part = parts[known];
  const bias = kind === "bias";
  const expert = number === undefined ? null : Number(number);
  if (bias && (expert !== null || !BIASED.has(part))) return null;
  return { layer: inside ? Number(inside[1]) : null, expert, part, bias };
}

/** The name of a weight in the core's Weights, such as `layers.3.query.bias`. */
export function canonicalName(
  layer: number | null,
  part: Part,
  bias: boolean = false,
  expert: number | null = null,
): string {
  const place = `${layer === null ? "" : `layers.${layer}.`}${expert === null ? "" : `experts.${expert}.`}`;
  return `${place}${part}${bias ? ".bias" : ""}`;
}
