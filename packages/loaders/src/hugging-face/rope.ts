import { listed, ROPE_TYPES, type RopeConfig, type RopeType } from "@longctx/core";
import type { Fields } from "../common/fields.ts";

/** Older names of RoPE types. */
const LEGACY_TYPES: Readonly<Record<string, RopeType>> = { su: "longrope" };
/** The first long checkpoints of Phi-3 write "yarn" for longrope. */
const PHI3_LEGACY_TYPES: Readonly<Record<string, RopeType>> = { ...LEGACY_TYPES, yarn: "longrope" };

/**
 * RoPE as a `config.json` describes it, in the old layout (`rope_theta`, `rope_scaling`) or the new one
 * (`rope_parameters`). Precedence is that of transformers (`RotaryEmbeddingConfigMixin`): `rope_scaling` before
 * `rope_parameters`, and a value inside that object before one of the same name outside, except for
 * `original_max_position_embeddings`.
 * @throws LongctxError "config" naming the field
 */
export function ropeFromHuggingFace(
  fields: Fields,
  model: { type: string; base: number; headSize: number; maxPositions: number },
): RopeConfig {
  const rope = scalingOf(fields);
  const base = rope?.ropeBase("rope_theta") ?? fields.ropeBase("rope_theta") ?? model.base;
  const rotarySize = rotarySizeOf(fields, rope, model);
  const type = typeOf(rope, model.type);
  if (!rope || type === "default") return { type: "default", base, rotarySize };

  const originalMaxPositions =
    fields.optionalCount("original_max_position_embeddings") ?? rope.optionalCount("original_max_position_embeddings");
  if (type === "linear" || type === "dynamic")
    return { type, base, rotarySize, originalMaxPositions, factor: rope.positive("factor") };
  const shared = { type, base, rotarySize, originalMaxPositions: originalMaxPositions ?? model.maxPositions };
  if (type === "llama3") {
    const [lowFreqFactor, highFreqFactor] = [rope.positive("low_freq_factor"), rope.positive("high_freq_factor")];
    if (highFreqFactor < lowFreqFactor) rope.fail("high_freq_factor", `at least low_freq_factor (${lowFreqFactor})`);
    return { ...shared, factor: rope.positive("factor"), lowFreqFactor, highFreqFactor };
  }
  const scaled = {
    ...shared,
    factor: rope.optionalPositive("factor"),
    attentionFactor: rope.optionalPositive("attention_factor"),
  };
  if (type === "longrope") {
    const [shortFactors, longFactors] = ["short_factor", "long_factor"].map((name) =>
      rope.divisors(name, rotarySize / 2),
    );
    return { ...scaled, shortFactors, longFactors };
  }
  return {
    ...scaled,
    // transformers takes 0 for "not written" in these four fields.
    betaFast: positiveUnlessZero(rope, "beta_fast"),
    betaSlow: positiveUnlessZero(rope, "beta_slow"),
    mscale: positiveUnlessZero(rope, "mscale"),
    mscaleAllDim: positiveUnlessZero(rope, "mscale_all_dim"),
    truncate: rope.flag("truncate", true),
  };
}

function scalingOf(fields: Fields): Fields | undefined {
  const scaling = fields.nested("rope_scaling");
  const rope = scaling && scaling.names().length > 0 ? scaling : fields.nested("rope_parameters");
  for (const layerType of ["full_attention", "sliding_attention"]) {
    if (rope?.has(layerType))
      rope.fail(layerType, "left out: longctx reads one set of rotary parameters for all layers");
  }
  if (rope?.get("mrope_section") !== undefined)
    rope.fail("mrope_section", "left out: longctx has no multimodal positions");
  return rope;
}

function typeOf(rope: Fields | undefined, modelType: string): RopeType {
  const key = rope?.get("rope_type") === undefined ? "type" : "rope_type";
  const name = rope?.get(key) ?? "default";
  const legacy = modelType === "phi3" ? PHI3_LEGACY_TYPES : LEGACY_TYPES;
  const type = typeof name === "string" && Object.hasOwn(legacy, name) ? legacy[name] : name;
  const known = ROPE_TYPES.find((candidate) => candidate === type);
  return known ?? rope!.fail(key, listed([...ROPE_TYPES, ...Object.keys(LEGACY_TYPES)]));
}

/** The number of rotated channels of a head; only Phi-3 may rotate fewer than all. */
function rotarySizeOf(fields: Fields, rope: Fields | undefined, model: { type: string; headSize: number }): number {
  const holder = rope?.get("partial_rotary_factor") === undefined ? fields : rope;
  const part = holder.positive("partial_rotary_factor", 1);
  if (part > 1) holder.fail("partial_rotary_factor", "a part of a head, at most 1");
  if (part !== 1 && model.type !== "phi3")
    holder.fail("partial_rotary_factor", `1 or left out: models of the type ${model.type} rotate whole heads`);
  const rotarySize = Math.trunc(model.headSize * part);
  if (rotarySize < 2 || rotarySize % 2 !== 0) {
    if (part !== 1)
      holder.fail(
        "partial_rotary_factor",
        `a part that makes an even number of the ${model.headSize} channels of a head, not ${rotarySize}`,
      );
    fields.fail("head_dim", `even for rotary pairs; the heads have ${model.headSize} channels`);
  }
  return rotarySize;
}

function positiveUnlessZero(rope: Fields, name: string): number | undefined {
  return rope.get(name) === 0 ? undefined : rope.optionalPositive(name);
}
