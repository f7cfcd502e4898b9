import { LongctxError, listed, type RopeConfig } from "@longctx/core";
import { yarnAmplitude } from "@longctx/rope-types";
import type { Fields } from "../common/fields.ts";
import type { StoredTensor } from "../tensor/stored-tensor.ts";

const SCALING_TYPES = ["none", "linear", "yarn", "longrope"] as const;

/** Names of the tensors that hold divisors of the rotary frequencies, d/2 values each for d rotated channels. */
const ROPE_TENSORS = {
  divisors: "rope_freqs.weight",
  short: "rope_factors_short.weight",
  long: "rope_factors_long.weight",
} as const;

/**
 * RoPE as GGUF metadata describes it and llama.cpp reads it: the `rope.*` keys, and tensors of frequency divisors. A
 * file with short and long divisors is of the type longrope also when it does not write that type, as Phi-3 files do
 * not.
 * @throws LongctxError "config" naming the key or the tensor
 */
export function ropeFromGguf(
  fields: Fields,
  model: { architecture: string; headSize: number; maxPositions: number },
  tensors: ReadonlyMap<string, StoredTensor>,
): RopeConfig {
  const key = (name: string) => `${model.architecture}.rope.${name}`;
  const rotarySize = fields.count(key("dimension_count"), model.headSize, { min: 2, max: model.headSize });
  if (rotarySize % 2 !== 0)
    fields.fail(key("dimension_count"), `an even number of the ${model.headSize} channels of a head`);
  const base = fields.ropeBase(key("freq_base")) ?? 10_000;
  const originalMaxPositions = fields.optionalCount(key("scaling.original_context_length"));
  const scalingFactor = factorOf(fields, key("scaling.factor")) ?? factorOf(fields, key("scale_linear"));
  const attentionFactor = factorOf(fields, key("scaling.attn_factor"));
  const divisors = (name: string) => readDivisors(fields.place, name, tensors, rotarySize / 2);

  const [shortFactors, longFactors] = [divisors(ROPE_TENSORS.short), divisors(ROPE_TENSORS.long)];
  const written = fields.optionalText(key("scaling.type")) ?? (scalingFactor === undefined ? "none" : "linear");
  const type =
    longFactors || shortFactors
      ? "longrope"
      : (SCALING_TYPES.find((name) => name === written) ?? fields.fail(key("scaling.type"), listed(SCALING_TYPES)));
  if (type === "longrope") {
    if (!shortFactors || !longFactors)
      throw new LongctxError(
        "config",
        `${fields.place}: the rotary type longrope needs the tensors ${ROPE_TENSORS.short} and ${ROPE_TENSORS.long}; one is missing.`,
      );
    return {
      type,
      base,
      rotarySize,
      originalMaxPositions: originalMaxPositions ?? model.maxPositions,
      attentionFactor,
      shortFactors,
      longFactors,
    };
  }
  const frequencyDivisors = divisors(ROPE_TENSORS.divisors);
  if (type === "yarn") {
    if (frequencyDivisors)
      throw new LongctxError(
        "config",
        `${fields.place}: the rotary type yarn together with ${ROPE_TENSORS.divisors} is not supported.`,
      );
    const factor = fields.positive(key("scaling.factor"));
    return {
      type,
      base,
      rotarySize,
      factor,
      originalMaxPositions: originalMaxPositions ?? model.maxPositions,
      // yarn_attn_factor is Hugging Face's attention_factor; attn_factor multiplies YaRN's own 0.1 ln(factor) + 1.
      attentionFactor:
        factorOf(fields, key("scaling.yarn_attn_factor")) ??
        (attentionFactor === undefined ? undefined : attentionFactor * yarnAmplitude(factor)),
      betaFast: fields.optionalPositive(key("scaling.yarn_beta_fast")),
      betaSlow: fields.optionalPositive(key("scaling.yarn_beta_slow")),
    };
  }
  const factor = type === "linear" ? (scalingFactor ?? 1) : 1;
  if (frequencyDivisors) {
    // Files of Llama 3.1 hold its frequency bands as divisors; a linear factor multiplies them.
    return {
      type: "default",
      base,
      rotarySize,
      originalMaxPositions,
      frequencyDivisors: frequencyDivisors.map((divisor) => divisor * factor),
    };
  }
  return factor === 1
    ? { type: "default", base, rotarySize }
    : { type: "linear", base, rotarySize, factor, originalMaxPositions };
}

/** A factor, where the key is written; llama.cpp takes the value 0 for "not written". */
function factorOf(fields: Fields, key: string): number | undefined {
  return fields.get(key) === 0 ? undefined : fields.optionalPositive(key);
}

function readDivisors(
  place: string,
  name: string,
  tensors: ReadonlyMap<string, StoredTensor>,
  length: number,
): number[] | undefined {
  const tensor = tensors.get(name);
  if (!tensor) return undefined;
  if (tensor.shape.length !== 1 || tensor.rowCount !== length) {
    throw new LongctxError(
      "config",
      `${place}: ${name} has the shape [${tensor.shape.join(", ")}], but the model rotates ${length} pairs of channels.`,
    );
  }
  const values = [...tensor.toFloat32()];
  const bad = values.find((value) => !Number.isFinite(value) || value <= 0);
  if (bad !== undefined)
    throw new LongctxError("config", `${place}: ${name} holds ${bad}; divisors of frequencies are finite and above 0.`);
  return values;
}
