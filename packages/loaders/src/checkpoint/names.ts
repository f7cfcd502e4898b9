/** Where a tensor belongs: `layers.3.query` and the like, or one that has to be taken apart first. */
export interface CanonicalName {
  /** The layer, or null for the three that are outside of all layers. */
  readonly layer: number | null;
  /** Which of a mixture of experts it belongs to. */
  readonly expert: number | null;
  readonly part: Part;
  readonly bias: boolean;
}

/** Parts of core's Weights, the fused ones of Phi-3, and those of all experts stacked. */
export type Part =
  | "embedding" | "finalNorm" | "head" | "attentionNorm" | "query" | "key" | "value" | "output" | "queryNorm" | "keyNorm"
  | "feedForwardNorm" | "gate" | "up" | "down" | "queryKeyValue" | "gateUp"
  | "attentionPostNorm" | "feedForwardPostNorm" | "router" | "gateExperts" | "upExperts" | "downExperts" | "gateUpExperts"; // prettier-ignore

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
  // Mixtures of experts: as published, and stacked as transformers 5 keeps them.
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
};

/** Gemma 2 has norms before and behind; what others call the norm after attention is the one before their network. */
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
  // The first files with experts.
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

/** Parameters, and not modules with a weight. */
const STACKED = /\.mlp\.experts\.(gate_up_proj|down_proj)$/;

/** `model.layers.0.self_attn.q_proj.weight`, with or without `model.` before it; null for a name that is no part. */
export function fromHuggingFaceName(name: string, modelType: string): CanonicalName | null {
  return parse(
    STACKED.test(name) ? `${name}.weight` : name,
    /^(?:model\.)?layers\.(\d{1,6})\.(.+)\.(weight|bias)$/,
    /^(?:model\.)?(\w+)\.(weight|bias)$/,
    modelType === "gemma2" ? GEMMA_INNER : HUGGING_FACE_INNER,
    HUGGING_FACE_OUTER,
  );
}

/** `blk.0.attn_q.weight`; null for a name that is no part. */
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

/** The name in core's Weights. */
export function canonicalName(
  layer: number | null,
  part: Part,
  bias: boolean = false,
  expert: number | null = null,
): string {
  const place = `${layer === null ? "" : `layers.${layer}.`}${expert === null ? "" : `experts.${expert}.`}`;
  return `${place}${part}${bias ? ".bias" : ""}`;
}
