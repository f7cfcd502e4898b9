import { LongctxError } from "../common/errors.ts";

/** Storage types of safetensors and GGUF that longctx reads. */
export const TENSOR_TYPES = [
  "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
] as const; // prettier-ignore
export type TensorType = (typeof TENSOR_TYPES)[number];

/** One tensor of a checkpoint, still as it is stored. */
export interface WeightTensor {
  /** The name in the file, for messages. */
  readonly name: string;
  readonly type: TensorType;
  /** Row-major; a matrix is [outputs, inputs]. */
  readonly shape: readonly number[];
  /** The stored bytes, row after row, read from the file at each call and owned by the caller. */
  bytes(): Uint8Array;
  /** Rows [from, to) as they are stored, owned by the caller, where they can be read without the others. */
  rows?(from: number, to: number): Uint8Array;
  /** All values, dequantised, owned by the caller. */
  toFloat32(): Float32Array;
}

/**
 * The weights of a decoder under canonical names, whatever the file calls them:
 * `embedding`, `finalNorm`, `head` (absent when tied), and per layer i, `layers.<i>.` +
 * `attentionNorm`, `query`, `key`, `value`, `output`, `queryNorm`, `keyNorm`, `attentionPostNorm`, `feedForwardNorm`,
 * `gate`, `up`, `down`, `feedForwardPostNorm`,
 * biases with `.bias` behind. A mixture of experts has `router` [E, hidden] and `experts.<e>.gate`, `.up` and `.down` in
 * place of the last three. Fused and stacked tensors (Phi-3) come already apart, permuted rows (GGUF llama) already in order:
 * rotary pairs are (i, i + d/2).
 */
export class Weights {
  readonly #tensors: ReadonlyMap<string, WeightTensor>;

  constructor(tensors: ReadonlyMap<string, WeightTensor>) {
    this.#tensors = tensors;
  }

  names(): IterableIterator<string> {
    return this.#tensors.keys();
  }

  find(name: string): WeightTensor | undefined {
    return this.#tensors.get(name);
  }

  /** The tensor of that name and shape. @throws LongctxError "file" when it is missing or shaped otherwise */
  get(name: string, shape: readonly number[]): WeightTensor {
    const tensor = this.#tensors.get(name);
    if (!tensor)
      throw new LongctxError(
        "file",
        `The checkpoint has no tensor for ${name}; it holds ${this.#tensors.size} others. Is a shard missing?`,
      );
    if (tensor.shape.length !== shape.length || tensor.shape.some((size, i) => size !== shape[i])) {
      throw new LongctxError(
        "file",
        `${tensor.name} has the shape [${tensor.shape.join(", ")}], but the model's description asks for [${shape.join(", ")}]. Do the config and the weights belong together?`,
      );
    }
    return tensor;
  }
}
