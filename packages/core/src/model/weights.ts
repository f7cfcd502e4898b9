import { LongctxError } from "../common/errors.ts";

/** The storage types of safetensors and GGUF tensors that longctx reads. */
export const TENSOR_TYPES = [
  "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
] as const; // prettier-ignore
export type TensorType = (typeof TENSOR_TYPES)[number];

/** One tensor of a checkpoint in its stored form, which may be quantised. */
export interface WeightTensor {
  /** The tensor's name in the file, for error messages. */
  readonly name: string;
  readonly type: TensorType;
  /** The dimensions of the row-major tensor; a matrix is [outputs, inputs]. */
  readonly shape: readonly number[];
  /** Reads the tensor's stored bytes, row after row; every call reads the file again and gives the caller a copy. */
  bytes(): Uint8Array;
  /** Reads rows [from, to) in stored form into a copy for the caller; absent where the file cannot be read by rows. */
  rows?(from: number, to: number): Uint8Array;
  /** Reads all values, dequantised to float32, into a copy for the caller. */
  toFloat32(): Float32Array;
}

/**
 * The weights of a decoder under canonical names, whatever names the file has for them.
 * Outside of layers: `embedding`, `finalNorm`, `head` (absent when tied to the embedding).
 * In layer i, after the prefix `layers.<i>.`: `attentionNorm`, `query`, `key`, `value`, `output`, `queryNorm`,
 * `keyNorm`,
 * `attentionPostNorm`, `feedForwardNorm`, `gate`, `up`, `down`, `feedForwardPostNorm`.
 * A bias has its matrix's name and `.bias`. A mixture of E experts has `router` [E, hidden] and `experts.<e>.gate`,
 * `experts.<e>.up`, `experts.<e>.down` in place of `gate`, `up` and `down`.
 * Loaders split fused and stacked tensors (Phi-3) and undo the row permutation of GGUF's llama, so that rotary pairs
 * are channels (i, i + d/2).
 *
 * Tensors that were trained for a method are `layers.<i>.method.<name>`; the checkpoint stores them as
 * `model.layers.<i>.self_attn.<name>`, [H] each: `infini_gate`, `knn_gate`, `knn_scale`. No backend needs them; a
 * method asks for them by name.
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

  /**
   * Returns the tensor with this canonical name.
   * @throws LongctxError "file" when it is missing or has another shape
   */
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
