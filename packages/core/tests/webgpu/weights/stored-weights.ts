import type { TensorType, WeightTensor } from "@longctx/core";
import { dequantise } from "../../../../loaders/src/tensor/dequantise.ts";
import { TENSOR_LAYOUTS } from "../../../../loaders/src/tensor/tensor-layout.ts";

/** Reproducible uniform numbers from [−1, 1). */
export function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

export function noisy(size: number, seed: number): Float32Array<ArrayBuffer> {
  const next = noise(seed);
  return Float32Array.from({ length: size }, next);
}

/** Where a storage block has numbers of half precision. */
const HALF_OFFSETS: Partial<Record<TensorType, readonly number[]>> = {
  Q8_0: [0], Q4_0: [0], Q4_1: [0, 2], Q5_0: [0], Q5_1: [0, 2], Q4_K: [0, 2], Q5_K: [0, 2], Q6_K: [208],
}; // prettier-ignore

/** A matrix of any storage type: random codes under scales of either sign, some of them subnormal. */
export function storedMatrix(type: TensorType, rows: number, columns: number, seed = 1): WeightTensor {
  const { values, bytes: blockBytes } = TENSOR_LAYOUTS[type];
  const bytes = new Uint8Array((rows * columns * blockBytes) / values);
  const view = new DataView(bytes.buffer);
  const next = noise(seed);
  const half = (at: number) => {
    const size = next() < -0.9 ? 0x0155 : 0x1800 + Math.floor((next() + 1) * 0x600);
    view.setUint16(at, size | (next() < 0 ? 0x8000 : 0), true);
  };
  for (let block = 0; block < bytes.length / blockBytes; block++) {
    const at = block * blockBytes;
    if (type === "F32") view.setFloat32(at, next(), true);
    else if (type === "BF16")
      view.setUint16(at, 0x3d00 + Math.floor((next() + 1) * 0x100) + (next() < 0 ? 0x8000 : 0), true);
    else if (type === "F16") half(at);
    else for (let i = 0; i < blockBytes; i++) bytes[at + i] = Math.floor((next() + 1) * 128);
    for (const offset of HALF_OFFSETS[type] ?? []) half(at + offset);
  }
  return {
    name: `a matrix of ${type}`,
    type,
    shape: [rows, columns],
    bytes: () => bytes.slice(),
    toFloat32: () => dequantise(type, bytes),
  };
}
