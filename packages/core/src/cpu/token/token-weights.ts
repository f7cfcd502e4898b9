import type { ModelSource } from "../weights/model-source.ts";
import type { WeightTensor } from "../../model/weights.ts";
import type { Floats } from "../wasm/kernel-threads.ts";
import type { Dense, Projection, Row } from "./dense.ts";
import { packCodes, packFloats, type PackedMatrix } from "./packed-matrix.ts";
import { isQuantised, quantisedMatrix } from "../weights/quantised.ts";

/** The model's weights in the memory of the dense kernels, and the rows that pass between them. */
export interface TokenWeights {
  /** The residual stream [hidden] and its norm. */
  readonly stream: Floats;
  readonly normed: Row;
  /** q, k and v side by side. */
  readonly projected: Floats;
  readonly attended: Row;
  readonly inner: Row;
  readonly layers: readonly LayerWeights[];
  readonly finalNorm: Floats;
  readonly head: Projection;
}

interface LayerWeights {
  readonly attentionNorm: Floats;
  readonly project: Projection;
  readonly projectBias: Floats | null;
  readonly queryNorm: Floats | null;
  readonly keyNorm: Floats | null;
  readonly output: Projection;
  readonly outputBias: Floats | null;
  readonly feedForwardNorm: Floats;
  readonly gateUp: Projection;
  readonly gateUpBias: Floats | null;
  readonly down: Projection;
  readonly downBias: Floats | null;
}

/** Above so many bytes of float weights the kernels save no time, since any product waits for memory, and cost a second copy. */
const MOST_FLOAT_BYTES = 2 ** 28;
/** The 4 GiB that WebAssembly can address, less room for the cache and scratch memory. */
const MOST_BYTES = 3.5 * 2 ** 30;
/** Bytes of a packed weight with its share of scale and minimum; 4-bit weights take less. */
const BYTES_A_CODE = 1.5;

export function fitsTokenWeights(source: ModelSource): boolean {
  const { headSize, hiddenSize, feedForwardSize } = source.config;
  if ([headSize, hiddenSize, feedForwardSize].some((size) => size % 4 !== 0)) return false;
  let floats = 0;
  let codes = 0;
  for (const { type, shape } of matrices(source)) {
    const size = shape[0] * shape[1];
    if (isQuantised(type)) codes += size * BYTES_A_CODE;
    else floats += size * 4;
  }
  return floats <= MOST_FLOAT_BYTES && floats + codes <= MOST_BYTES;
}

export function tokenWeights(source: ModelSource, dense: Dense): TokenWeights {
  const { config, weights } = source;
  const { hiddenSize, layerCount, queryHeads, keyHeads, headSize, feedForwardSize, bias, queryKeyNorm } = config;
  const vector = (name: string, size = hiddenSize) => dense.vector(weights.get(name, [size]).toFloat32());
  const biases = (present: boolean, names: readonly string[], sizes: readonly number[]) =>
    present
      ? dense.vector(
          Float32Array.from(
            names.flatMap((name, i) => [...(weights.find(`${name}.bias`)?.toFloat32() ?? new Float32Array(sizes[i]))]),
          ),
        )
      : null;
  const rows = {
    stream: dense.floats(hiddenSize),
    normed: dense.row(hiddenSize),
    projected: dense.floats((queryHeads + 2 * keyHeads) * headSize),
    attended: dense.row(queryHeads * headSize),
    inner: dense.row(feedForwardSize),
  };
  const layers = Array.from({ length: layerCount }, (_, layer): LayerWeights => {
    const { names, sizes, ...tensors } = layerMatrices(source, layer);
    const name = (part: string) => `layers.${layer}.${part}`;
    return {
      attentionNorm: vector(name("attentionNorm")),
      project: dense.projection(packed(tensors.project), rows.normed),
      projectBias: biases(bias.query || bias.key || bias.value, names, sizes),
      queryNorm: queryKeyNorm ? vector(name("queryNorm"), headSize) : null,
      keyNorm: queryKeyNorm ? vector(name("keyNorm"), headSize) : null,
      output: dense.projection(packed(tensors.output), rows.attended),
      outputBias: biases(bias.output, [name("output")], [hiddenSize]),
      feedForwardNorm: vector(name("feedForwardNorm")),
      gateUp: dense.projection(packed(tensors.gateUp), rows.normed),
      gateUpBias: biases(bias.feedForward, [name("gate"), name("up")], [feedForwardSize, feedForwardSize]),
      down: dense.projection(packed(tensors.down), rows.inner),
      downBias: biases(bias.feedForward, [name("down")], [hiddenSize]),
    };
  });
  return {
    ...rows,
    layers,
    finalNorm: vector("finalNorm"),
    head: dense.projection(packed([headMatrix(source)]), rows.normed),
  };
}

/** Packs matrices over one input: those of one quantised type become one matrix. */
function packed(tensors: readonly WeightTensor[]): PackedMatrix[] {
  if (isQuantised(tensors[0].type) && tensors.every(({ type }) => type === tensors[0].type))
    return [packCodes(quantisedMatrix(tensors))];
  return tensors.map((tensor) =>
    isQuantised(tensor.type)
      ? packCodes(quantisedMatrix([tensor]))
      : packFloats(tensor.shape[0], tensor.shape[1], () => tensor.toFloat32()),
  );
}

function layerMatrices({ config, weights }: ModelSource, layer: number) {
  const { hiddenSize, queryHeads, keyHeads, headSize, feedForwardSize } = config;
  const names = ["query", "key", "value"].map((part) => `layers.${layer}.${part}`);
  const sizes = [queryHeads, keyHeads, keyHeads].map((heads) => heads * headSize);
  const matrix = (part: string, outputs: number, inputs: number) =>
    weights.get(`layers.${layer}.${part}`, [outputs, inputs]);
  return {
    names,
    sizes,
    project: names.map((name, i) => weights.get(name, [sizes[i], hiddenSize])),
    output: [matrix("output", hiddenSize, queryHeads * headSize)],
    gateUp: [matrix("gate", feedForwardSize, hiddenSize), matrix("up", feedForwardSize, hiddenSize)],
    down: [matrix("down", hiddenSize, feedForwardSize)],
  };
}

function headMatrix({ config, weights }: ModelSource): WeightTensor {
  const { tiedEmbedding, vocabSize, hiddenSize } = config;
  return weights.get(tiedEmbedding ? "embedding" : "head", [vocabSize, hiddenSize]);
}

function matrices(source: ModelSource): WeightTensor[] {
  const layers = Array.from({ length: source.config.layerCount }, (_, layer) => layerMatrices(source, layer));
  return [
    ...layers.flatMap(({ project, output, gateUp, down }) => [...project, ...output, ...gateUp, ...down]),
    headMatrix(source),
  ];
}
