import type { Precision } from "../../backend/backend.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { Weights, WeightTensor } from "../../model/weights.ts";
import { dequantiseRow, isQuantised } from "./quantised.ts";

/** What graphs and kernels are made from; `weights` stay open, since a graph reads them when a chunk first needs it. */
export interface ModelSource {
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly precision: Precision;
}

/** Looks up rows of the embedding, which stays in memory as the file stores it. */
export class Embedding {
  readonly #tensor: Pick<WeightTensor, "type" | "shape">;
  readonly #bytes: Uint8Array | null;
  readonly #floats: Float32Array | null;

  constructor(tensor: WeightTensor) {
    const quantised = isQuantised(tensor.type);
    this.#tensor = { type: tensor.type, shape: tensor.shape };
    this.#bytes = quantised ? tensor.bytes() : null;
    this.#floats = quantised ? null : tensor.toFloat32();
  }

  /** Writes the embeddings of `ids` into `out` [n, hidden]. */
  rows(ids: readonly number[], out: Float32Array): void {
    const width = this.#tensor.shape[1];
    ids.forEach((id, i) => {
      const row = out.subarray(i * width, (i + 1) * width);
      if (this.#floats) row.set(this.#floats.subarray(id * width, (id + 1) * width));
      else dequantiseRow(this.#tensor.type, this.#bytes!, id, width, row);
    });
  }
}
