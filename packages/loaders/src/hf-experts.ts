import type { ExpertsConfig } from "@longctx/core";
import type { Fields } from "./fields.ts";

const MAX_EXPERTS = 4096;

/** The two ways in which a `config.json` describes a mixture of experts. */
export type ExpertFields = "mixtral" | "qwen";

/** Defaults are those of transformers' config classes. @throws LongctxError "config" for layers without experts among them */
export function expertsFromHuggingFace(fields: Fields, kind: ExpertFields, layerCount: number): ExpertsConfig {
  // Qwen's `num_experts` is written as `num_local_experts` by transformers 5.
  const name = kind === "qwen" && fields.has("num_experts") ? "num_experts" : "num_local_experts";
  const count = fields.count(name, kind === "mixtral" ? 8 : 128, { max: MAX_EXPERTS });
  const perToken = fields.count("num_experts_per_tok", kind === "mixtral" ? 2 : 8);
  if (perToken > count) fields.fail("num_experts_per_tok", `at most the number of experts (${count})`);
  if (kind === "mixtral")
    return { count, perToken, feedForwardSize: fields.count("intermediate_size"), renormalise: true };
  const step = fields.count("decoder_sparse_step", 1);
  if (step !== 1) fields.fail("decoder_sparse_step", "1: in longctx all layers of a model have experts, or none");
  const dense = fields.get("mlp_only_layers") ?? [];
  if (!Array.isArray(dense) || dense.some((layer) => layer < layerCount))
    fields.fail("mlp_only_layers", "empty: in longctx all layers of a model have experts, or none");
  return {
    count,
    perToken,
    feedForwardSize: fields.count("moe_intermediate_size", 768),
    renormalise: fields.flag("norm_topk_prob", false),
  };
}
