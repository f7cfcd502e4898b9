/** Where a tensor belongs: `layers.3.query` and the like, or one that has to be taken apart first. */
export interface CanonicalName {
  /** The layer, or null for the three that are outside of all layers. */
  readonly layer: number | null;
  readonly part: Part;
  readonly bias: boolean;
}

/** Parts of core's Weights, and the fused ones of Phi-3. */
export type Part =
  | "embedding" | "finalNorm" | "head" | "attentionNorm" | "query" | "key" | "value" | "output" | "queryNorm" | "keyNorm"
  | "feedForwardNorm" | "gate" | "up" | "down" | "queryKeyValue" | "gateUp"; // prettier-ignore

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

/** `model.layers.0.self_attn.q_proj.weight`, with or without `model.` before it; null for a name that is no part. */
export function fromHuggingFaceName(name: string): CanonicalName | null {
  return parse(
    name,
    /^(?:model\.)?layers\.(\d{1,6})\.(.+)\.(weight|bias)$/,
    /^(?:model\.)?(\w+)\.(weight|bias)$/,
    HUGGING_FACE_INNER,
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
  if (written === undefined || !Object.hasOwn(parts, written)) return null;
  const part = parts[written];
  const bias = kind === "bias";
  return bias && !BIASED.has(part) ? null : { layer: inside ? Number(inside[1]) : null, part, bias };
}

/** The name in core's Weights. */
export function canonicalName(layer: number | null, part: Part, bias: boolean): string {
  return `${layer === null ? "" : `layers.${layer}.`}${part}${bias ? ".bias" : ""}`;
}
