import { LongctxError, listed, type ModelConfig, Weights, type WeightTensor } from "@longctx/core";
import { canonicalName, type CanonicalName, fromGgufName, fromHuggingFaceName, type Part } from "./names.ts";
import type { GgufFile } from "../gguf/file.ts";
import type { SafetensorsFile } from "../hugging-face/safetensors.ts";
import { RowView, type StoredTensor } from "../tensor/stored-tensor.ts";

/**
 * The weights of a safetensors checkpoint under the core's canonical names. Tensors that the architecture does not have
 * are left out, as transformers does.
 * @throws LongctxError "file" when a weight is missing, has another shape, or has a type other than F32, F16 and BF16
 */
export function weightsFromSafetensors(file: SafetensorsFile, config: ModelConfig): Weights {
  const nameOf = (name: string) => fromHuggingFaceName(name, config.modelType);
  for (const [name, type] of file.unreadable) {
    if (nameOf(name))
      throw new LongctxError(
        "file",
        `${file.path}: ${name} is stored as ${type}; of safetensors longctx reads ${listed(["F32", "F16", "BF16"])}.`,
      );
  }
  const weights = assemble(file.tensors, config, nameOf, false);
  return config.modelType === "gemma2" ? withWholeGains(weights) : weights;
}

/**
 * Gemma's safetensors store gain − 1 for each RMSNorm; this adds the 1, which llama.cpp's converter adds for GGUF
 * files.
 */
function withWholeGains(weights: Weights): Weights {
  const whole = (tensor: WeightTensor): WeightTensor => {
    const toFloat32 = () => tensor.toFloat32().map((value) => 1 + value);
    const { name, shape } = tensor;
    return { name, type: "F32", shape, toFloat32, bytes: () => new Uint8Array(toFloat32().buffer) };
  };
  return new Weights(
    new Map(
      [...weights.names()].map((name) => {
        const tensor = weights.find(name)!;
        return [name, name.endsWith("Norm") ? whole(tensor) : tensor] as const;
      }),
    ),
  );
}

/**
 * Tensors with rotary tables: `ropeFromGguf` reads the divisors, and the angles in older files follow from the RoPE
 * base.
 */
const GGUF_EXTRAS = /^(rope_freqs|rope_factors_short|rope_factors_long|blk\.\d+\.attn_rot_embd)\.weight$/;

/**
 * The weights of a GGUF file under the core's canonical names. llama.cpp's converter permutes the rows of query and
 * key, biases included, to interleaved rotary pairs for the architecture `llama`; this puts them back in Hugging Face's
 * order.
 * @throws LongctxError "config" for a tensor that longctx's architectures do not have, "file" when a weight is missing
 * or has another shape
 */
export function weightsFromGguf({ path, tensors }: Pick<GgufFile, "path" | "tensors">, config: ModelConfig): Weights {
  const weights = new Map<string, StoredTensor>();
  for (const [name, tensor] of tensors) {
    const canonical = fromGgufName(name);
    if (canonical && (canonical.layer ?? 0) < config.layerCount) weights.set(name, tensor);
    else if (!GGUF_EXTRAS.test(name)) {
      throw new LongctxError(
        "config",
        `${path}: the tensor ${name} (${tensor.type}) is no part of the architecture ${config.modelType} as longctx has it; running without it would be another model.`,
      );
    }
  }
  const fused = config.modelType === "phi3";
  return assemble(
    weights,
    config,
    (name) => fusedGateUp(fromGgufName(name), fused && !weights.has(name.replace("ffn_up", "ffn_gate"))),
    config.modelType === "llama",
  );
}

/** In a Phi-3 file without `ffn_gate`, `ffn_up` holds the rows of gate followed by the rows of up. */
function fusedGateUp(name: CanonicalName | null, fused: boolean): CanonicalName | null {
  return name?.part === "up" && fused ? { ...name, part: "gateUp" } : name;
}

function assemble(
  tensors: ReadonlyMap<string, StoredTensor>,
  config: ModelConfig,
  nameOf: (name: string) => CanonicalName | null,
  interleaved: boolean,
): Weights {
  const found = new Map<string, WeightTensor>();
  for (const [name, tensor] of tensors) {
    const canonical = nameOf(name);
    if (
      !canonical ||
      (canonical.layer ?? 0) >= config.layerCount ||
      (canonical.part === "head" && config.tiedEmbedding)
    )
      continue;
    const { layer, part, bias, expert } = canonical;
    if (expert !== null && expert >= (config.experts?.count ?? 0)) continue;
    if (part.endsWith("Experts"))
      for (const [e, inner, weight] of unstacked(tensor, part, config))
        found.set(canonicalName(layer, inner, bias, e), weight);
    else
      for (const [inner, weight] of partsOf(tensor, part, config, interleaved))
        found.set(canonicalName(layer, inner, bias, expert), weight);
  }
  const weights = new Weights(found);
  for (const [name, shape] of expectedShapes(config)) weights.get(name, shape);
  return weights;
}

function partsOf(tensor: StoredTensor, part: Part, config: ModelConfig, interleaved: boolean): [Part, WeightTensor][] {
  const [queryRows, keyRows] = [config.queryHeads * config.headSize, config.keyHeads * config.headSize];
  if (part === "queryKeyValue") return sliced(tensor, [["query", queryRows], ["key", keyRows], ["value", keyRows]]); // prettier-ignore
  if (part === "gateUp") return sliced(tensor, [["gate", config.feedForwardSize], ["up", config.feedForwardSize]]); // prettier-ignore
  // The permutation needs whole heads; the check of shapes refuses a tensor with any other number of rows.
  if (interleaved && (part === "query" || part === "key") && tensor.rowCount % config.headSize === 0) {
    return [
      [part, new RowView(tensor, { name: tensor.name, from: 0, to: tensor.rowCount, order: interleavedRow(config) })],
    ];
  }
  return [[part, tensor]];
}

/** The matrices of the E experts, views of one stacked tensor [E, outputs, inputs]. */
function* unstacked(
  tensor: StoredTensor,
  stack: Part,
  { experts, hiddenSize }: ModelConfig,
): Generator<readonly [number, Part, WeightTensor]> {
  if (!experts) return;
  const { count, feedForwardSize: inner } = experts;
  const parts = STACKS[stack] ?? [];
  const shape = stack === "downExperts" ? [count, hiddenSize, inner] : [count, parts.length * inner, hiddenSize];
  if (tensor.shape.length !== 3 || tensor.shape.some((size, i) => size !== shape[i]))
    throw new LongctxError(
      "file",
      `${tensor.name} has the shape [${tensor.shape.join(", ")}], but the model's description asks for [${shape.join(", ")}]. Do the config and the weights belong together?`,
    );
  const rows = shape[1] / parts.length;
  const flat = tensor.flattened();
  for (let expert = 0; expert < count; expert++)
    for (const [i, part] of parts.entries()) {
      const from = (expert * parts.length + i) * rows;
      yield [expert, part, new RowView(flat, { name: `${tensor.name}[${expert}] (${part})`, from, to: from + rows })];
    }
}

const STACKS: Partial<Record<Part, readonly Part[]>> = {
  gateExperts: ["gate"],
  upExperts: ["up"],
  downExperts: ["down"],
  gateUpExperts: ["gate", "up"],
};

function sliced(tensor: StoredTensor, parts: readonly (readonly [Part, number])[]): [Part, WeightTensor][] {
  const total = parts.reduce((sum, [, rows]) => sum + rows, 0);
  if (tensor.rowCount !== total) {
    throw new LongctxError(
      "file",
      `${tensor.name} has ${tensor.rowCount} rows, but ${listed(parts.map(([part, rows]) => `${part} ${rows}`)).replace(" or ", " and ")} are ${total}. Do the config and the weights belong together?`,
    );
  }
  let from = 0;
  return parts.map(([part, rows]) => {
    const view = new RowView(tensor, { name: `${tensor.name}[${from}:${from + rows}]`, from, to: from + rows });
    from += rows;
    return [part, view];
  });
}

/**
 * The stored row of each row of a query or key matrix: rotary pair i, channels (i, i + d/2) of a head with d rotated
 * channels, is stored at (2i, 2i + 1); channels from d on stay where they are.
 */
function interleavedRow({ headSize, rope: { rotarySize } }: ModelConfig): (row: number) => number {
  const half = rotarySize / 2;
  return (row) => {
    const channel = row % headSize;
    if (channel >= rotarySize) return row;
    return row - channel + (channel < half ? 2 * channel : 2 * (channel - half) + 1);
  };
}

/** The canonical name and the shape of every weight that a model of this description has. */
export function* expectedShapes(config: ModelConfig): Generator<[string, readonly number[]]> {
  const { hiddenSize: hidden, vocabSize, headSize, feedForwardSize: inner, bias, experts } = config;
  const [queryRows, keyRows] = [config.queryHeads * headSize, config.keyHeads * headSize];
  yield ["embedding", [vocabSize, hidden]];
  yield ["finalNorm", [hidden]];
  if (!config.tiedEmbedding) yield ["head", [vocabSize, hidden]];
  const matrices: readonly (readonly [Part, number, number, boolean])[] = [
    ["query", queryRows, hidden, bias.query],
    ["key", keyRows, hidden, bias.key],
    ["value", keyRows, hidden, bias.value],
    ["output", hidden, queryRows, bias.output],
  ];
  const network = (size: number): readonly (readonly [Part, number, number])[] => [
    ["gate", size, hidden],
    ["up", size, hidden],
    ["down", hidden, size],
  ];
  for (let layer = 0; layer < config.layerCount; layer++) {
    yield [canonicalName(layer, "attentionNorm"), [hidden]];
    yield [canonicalName(layer, "feedForwardNorm"), [hidden]];
    if (config.postNorms) {
      yield [canonicalName(layer, "attentionPostNorm"), [hidden]];
      yield [canonicalName(layer, "feedForwardPostNorm"), [hidden]];
    }
    if (config.queryKeyNorm) {
      yield [canonicalName(layer, "queryNorm"), [headSize]];
      yield [canonicalName(layer, "keyNorm"), [headSize]];
    }
    const dense = experts ? [] : network(inner).map((matrix) => [...matrix, bias.feedForward] as const);
    for (const [part, rows, columns, biased] of [...matrices, ...dense]) {
      yield [canonicalName(layer, part), [rows, columns]];
      if (biased) yield [canonicalName(layer, part, true), [rows]];
    }
    if (experts) yield [canonicalName(layer, "router"), [experts.count, hidden]];
    for (let expert = 0; expert < (experts?.count ?? 0); expert++)
      for (const [part, rows, columns] of network(experts!.feedForwardSize))
        yield [canonicalName(layer, part, false, expert), [rows, columns]];
  }
}
