import type { ModelConfig } from "../model/config.ts";
import type { Weights } from "../model/weights.ts";
import type { Matrix } from "./dense.ts";

export interface GatedNetwork {
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
}

export interface LayerWeights {
  readonly attentionNorm: Float32Array;
  readonly query: Matrix;
  readonly key: Matrix;
  readonly value: Matrix;
  readonly output: Matrix;
  /** Null where the model has no RMS norm over q and k. */
  readonly queryNorm: Float32Array | null;
  readonly keyNorm: Float32Array | null;
  readonly feedForwardNorm: Float32Array;
  /** Null where sums go into the residual stream as they are. */
  readonly attentionPostNorm: Float32Array | null;
  readonly feedForwardPostNorm: Float32Array | null;
  /** [E, hidden]; null where there is one network and nothing to choose. */
  readonly router: Matrix | null;
  readonly networks: readonly GatedNetwork[];
}

export interface DecoderWeights {
  /** [V, hidden] */
  readonly embedding: Float32Array;
  readonly layers: readonly LayerWeights[];
  readonly finalNorm: Float32Array;
  readonly head: Matrix;
}

/** Every tensor of the model in float32. @throws LongctxError "file" when one is missing or has another shape */
export function readWeights(config: ModelConfig, weights: Weights): DecoderWeights {
  const { hiddenSize, feedForwardSize, headSize, bias, vocabSize, experts } = config;
  const vector = (name: string, size: number) => weights.get(name, [size]).toFloat32();
  const matrix = (name: string, outputs: number, inputs: number, biased = false): Matrix => ({
    values: weights.get(name, [outputs, inputs]).toFloat32(),
    outputs,
    inputs,
    bias: biased ? vector(`${name}.bias`, outputs) : undefined,
  });
  const network = (at: string, size: number, biased: boolean): GatedNetwork => ({
    gate: matrix(`${at}gate`, size, hiddenSize, biased),
    up: matrix(`${at}up`, size, hiddenSize, biased),
    down: matrix(`${at}down`, hiddenSize, size, biased),
  });
  const querySize = config.queryHeads * headSize;
  const keySize = config.keyHeads * headSize;
  const layer = (_: unknown, index: number): LayerWeights => {
    const at = `layers.${index}.`;
    return {
      attentionNorm: vector(`${at}attentionNorm`, hiddenSize),
      query: matrix(`${at}query`, querySize, hiddenSize, bias.query),
      key: matrix(`${at}key`, keySize, hiddenSize, bias.key),
      value: matrix(`${at}value`, keySize, hiddenSize, bias.value),
      output: matrix(`${at}output`, hiddenSize, querySize, bias.output),
      queryNorm: config.queryKeyNorm ? vector(`${at}queryNorm`, headSize) : null,
      keyNorm: config.queryKeyNorm ? vector(`${at}keyNorm`, headSize) : null,
      feedForwardNorm: vector(`${at}feedForwardNorm`, hiddenSize),
      attentionPostNorm: config.postNorms ? vector(`${at}attentionPostNorm`, hiddenSize) : null,
      feedForwardPostNorm: config.postNorms ? vector(`${at}feedForwardPostNorm`, hiddenSize) : null,
      router: experts ? matrix(`${at}router`, experts.count, hiddenSize) : null,
      networks: experts
        ? Array.from({ length: experts.count }, (_expert, e) =>
            network(`${at}experts.${e}.`, experts.feedForwardSize, false),
          )
        : [network(at, feedForwardSize, bias.feedForward)],
    };
  };
  const embedding = matrix("embedding", vocabSize, hiddenSize);
  return {
    embedding: embedding.values,
    layers: Array.from({ length: config.layerCount }, layer),
    finalNorm: vector("finalNorm", hiddenSize),
    head: config.tiedEmbedding ? embedding : matrix("head", vocabSize, hiddenSize),
  };
}
