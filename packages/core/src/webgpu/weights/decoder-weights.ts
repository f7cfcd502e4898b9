import type { ExpertsConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import type { WeightTensor } from "../../model/weights.ts";
import type { AlignedModel } from "./aligned.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { canInterleave, type GpuMatrix } from "./weights-packed.ts";
import { interleavable, matrixSteps, uploadBiases, type UploadSteps } from "./weights-upload.ts";

export interface GpuLayerWeights {
  readonly attentionNorm: GpuSlice;
  /** q, k and v below one another, [(H + 2K)·D, hidden]. */
  readonly project: readonly GpuMatrix[];
  readonly projectBias: GpuSlice | null;
  /** Gains over a head of q and of k, [2, D]; null where the model has none. */
  readonly headNorms: GpuSlice | null;
  readonly output: readonly GpuMatrix[];
  readonly outputBias: GpuSlice | null;
  readonly feedForwardNorm: GpuSlice;
  /** Null where sums go into the residual stream as they are. */
  readonly attentionPostNorm: GpuSlice | null;
  readonly feedForwardPostNorm: GpuSlice | null;
  /** Of a mixture of experts [E, hidden], times the gain of the norm; null where there is one network. */
  readonly router: GpuSlice | null;
  /** [2F, hidden]: row by row when interleaved, else one below the other. Those of experts are interleaved and stacked. */
  readonly gateUp: readonly GpuMatrix[];
  readonly interleaved: boolean;
  readonly gateUpBias: GpuSlice | null;
  readonly down: readonly GpuMatrix[];
  readonly downBias: GpuSlice | null;
}

type FeedForwardWeights = Pick<
  GpuLayerWeights,
  "router" | "gateUp" | "interleaved" | "gateUpBias" | "down" | "downBias"
>;

export interface GpuWeights {
  readonly embedding: readonly GpuMatrix[];
  readonly layers: readonly GpuLayerWeights[];
  readonly finalNorm: GpuSlice;
  readonly head: readonly GpuMatrix[];
}

/** Every tensor to the device, packed as stored. @throws LongctxError "file" when one is missing or has another shape */
export function* weightSteps(gpu: Gpu, { config, weights }: AlignedModel): UploadSteps<GpuWeights> {
  const { hiddenSize, feedForwardSize, headSize, queryHeads, keyHeads, vocabSize, bias } = config;
  const querySize = queryHeads * headSize;
  const keySize = keyHeads * headSize;
  const vector = (name: string) => gpu.upload(weights.get(name, [hiddenSize]).toFloat32(), "weights");
  const biasIn = (index: number) => (name: string, size: number, present: boolean) => ({
    size,
    tensor: present ? weights.get(`layers.${index}.${name}.bias`, [size]) : undefined,
  });
  function* network(index: number): UploadSteps<FeedForwardWeights> {
    const biasOf = biasIn(index);
    const gate = weights.get(`layers.${index}.gate`, [feedForwardSize, hiddenSize]);
    const up = weights.get(`layers.${index}.up`, [feedForwardSize, hiddenSize]);
    const interleaved = canInterleave(gate, up);
    return {
      router: null,
      gateUp: yield* matrixSteps(gpu, [gate, up], { interleave: interleaved }),
      interleaved,
      gateUpBias: uploadBiases(
        gpu,
        ["gate", "up"].map((name) => biasOf(name, feedForwardSize, bias.feedForward)),
        interleaved,
      ),
      down: yield* matrixSteps(gpu, [weights.get(`layers.${index}.down`, [hiddenSize, feedForwardSize])]),
      downBias: uploadBiases(gpu, [biasOf("down", hiddenSize, bias.feedForward)]),
    };
  }
  function* mixture(index: number, { count, feedForwardSize: size }: ExpertsConfig): UploadSteps<FeedForwardWeights> {
    if (config.postNorms)
      throw new LongctxError(
        "config",
        "A mixture of experts with norms behind it is not on the device webgpu; use the device reference.",
      );
    const experts = Array.from({ length: count }, (_, expert) => `layers.${index}.experts.${expert}.`);
    const gain = weights.get(`layers.${index}.feedForwardNorm`, [hiddenSize]).toFloat32();
    const gates = experts.flatMap((at) =>
      ["gate", "up"].map((name) => weights.get(`${at}${name}`, [size, hiddenSize])),
    );
    const router = weights.get(`layers.${index}.router`, [count, hiddenSize]).toFloat32();
    return {
      router: gpu.upload(
        router.map((weight, i) => weight * gain[i % hiddenSize]),
        "weights",
      ),
      gateUp: yield* matrixSteps(gpu, interleavable(gates), { interleave: true }),
      interleaved: true,
      gateUpBias: null,
      down: yield* matrixSteps(
        gpu,
        experts.map((at) => weights.get(`${at}down`, [hiddenSize, size])),
      ),
      downBias: null,
    };
  }
  function* layer(index: number): UploadSteps<GpuLayerWeights> {
    const matrix = (name: string, outputs: number, inputs: number): WeightTensor =>
      weights.get(`layers.${index}.${name}`, [outputs, inputs]);
    const biasOf = biasIn(index);
    return {
      attentionNorm: vector(`layers.${index}.attentionNorm`),
      project: yield* matrixSteps(gpu, [
        matrix("query", querySize, hiddenSize),
        matrix("key", keySize, hiddenSize),
        matrix("value", keySize, hiddenSize),
      ]),
      projectBias: uploadBiases(gpu, [
        biasOf("query", querySize, bias.query),
        biasOf("key", keySize, bias.key),
        biasOf("value", keySize, bias.value),
      ]),
      headNorms: config.queryKeyNorm ? gpu.upload(headNorms(weights, index, headSize), "weights") : null,
      output: yield* matrixSteps(gpu, [matrix("output", hiddenSize, querySize)]),
      outputBias: uploadBiases(gpu, [biasOf("output", hiddenSize, bias.output)]),
      feedForwardNorm: vector(`layers.${index}.feedForwardNorm`),
      attentionPostNorm: config.postNorms ? vector(`layers.${index}.attentionPostNorm`) : null,
      feedForwardPostNorm: config.postNorms ? vector(`layers.${index}.feedForwardPostNorm`) : null,
      ...(yield* config.experts ? mixture(index, config.experts) : network(index)),
    };
  }
  const embedding = yield* matrixSteps(gpu, [weights.get("embedding", [vocabSize, hiddenSize])]);
  const layers: GpuLayerWeights[] = [];
  for (let index = 0; index < config.layerCount; index++) layers.push(yield* layer(index));
  return {
    embedding,
    layers,
    finalNorm: vector("finalNorm"),
    head: config.tiedEmbedding ? embedding : yield* matrixSteps(gpu, [weights.get("head", [vocabSize, hiddenSize])]),
  };
}

/** Gains of q's norm and k's, [2, D]. */
export function headNorms(weights: AlignedModel["weights"], layer: number, headSize: number): Float32Array {
  const gains = new Float32Array(2 * headSize);
  ["queryNorm", "keyNorm"].forEach((name, i) =>
    gains.set(weights.get(`layers.${layer}.${name}`, [headSize]).toFloat32(), i * headSize),
  );
  return gains;
}
