import type { TensorType } from "@longctx/core";

/** The block of a storage type: `values` consecutive values of a row take `bytes` bytes. */
export interface TensorLayout {
  readonly values: number;
  readonly bytes: number;
}

/** The block of each storage type (ggml-common.h). */
export const TENSOR_LAYOUTS: Readonly<Record<TensorType, TensorLayout>> = {
  F32: { values: 1, bytes: 4 },
  F16: { values: 1, bytes: 2 },
  BF16: { values: 1, bytes: 2 },
  Q8_0: { values: 32, bytes: 34 },
  Q4_0: { values: 32, bytes: 18 },
  Q4_1: { values: 32, bytes: 20 },
  Q5_0: { values: 32, bytes: 22 },
  Q5_1: { values: 32, bytes: 24 },
  Q4_K: { values: 256, bytes: 144 },
  Q5_K: { values: 256, bytes: 176 },
  Q6_K: { values: 256, bytes: 210 },
};

/**
 * The number of values of a tensor of that shape; null when a size is no whole number or the product is beyond 2^53.
 */
export function elementCount(shape: readonly number[]): number | null {
  let product = 1;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) return null;
    product *= size;
    // An overflow is refused also when a later size is 0, since no file has such a tensor.
    if (!Number.isSafeInteger(product)) return null;
  }
  return product;
}
