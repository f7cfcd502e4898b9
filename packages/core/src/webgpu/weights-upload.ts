import type { WeightTensor } from "../weights.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuSlice } from "./kernel.ts";
import type { GpuMatrix } from "./kernels/product.ts";
import { canInterleave, packMatrices, type PackOptions } from "./weights-packed.ts";

/** One matrix below the other, as packed parts on the device: one where the types agree and a binding can hold it. */
export function uploadMatrices(
  gpu: Gpu,
  tensors: readonly WeightTensor[],
  options?: Partial<PackOptions>,
): GpuMatrix[] {
  const parts: GpuMatrix[] = [];
  const { maxBinding, maxBuffer } = gpu.capabilities;
  for (const part of packMatrices(tensors, { maxBinding: Math.min(maxBinding, maxBuffer), ...options })) {
    const codes = gpu.upload(part.codes, "weights");
    parts.push({ ...part, codes, scales: part.scales && gpu.upload(part.scales, "weights") });
  }
  return parts;
}

/**
 * Gate and up with their rows by turns, so that one product gives activation(gate) · up; null where the two are stored
 * differently: then they are products of their own, and `activate` joins them.
 */
export function uploadGateUp(gpu: Gpu, gate: WeightTensor, up: WeightTensor): GpuMatrix[] | null {
  return canInterleave(gate, up) ? uploadMatrices(gpu, [gate, up], { interleave: true }) : null;
}

/** The gate and up matrices of experts, [E·2F, hidden], one below the other, and their rows by turns. */
export function uploadExpertGates(
  gpu: Gpu,
  gatesAndUps: readonly WeightTensor[],
  options?: Partial<Pick<PackOptions, "maxBinding">>,
): GpuMatrix[] {
  const alike = gatesAndUps.every((tensor) => canInterleave(tensor, gatesAndUps[0]));
  return uploadMatrices(gpu, alike ? gatesAndUps : gatesAndUps.map(inFloats), {
    ...options,
    interleave: true,
  });
}

/** Matrices of several types cannot have their rows by turns; rare enough to be kept as they are computed with. */
function inFloats(tensor: WeightTensor): WeightTensor {
  const toFloat32 = () => tensor.toFloat32();
  return {
    name: tensor.name,
    type: "F32",
    shape: tensor.shape,
    toFloat32,
    bytes: () => new Uint8Array(toFloat32().buffer),
  };
}

/** Biases behind one another, or by turns for interleaved matrices; zeros for the ones a model does not have. */
export function uploadBiases(
  gpu: Gpu,
  biases: readonly { readonly size: number; readonly tensor: WeightTensor | undefined }[],
  interleave = false,
): GpuSlice | null {
  if (biases.every(({ tensor }) => !tensor)) return null;
  const all = new Float32Array(biases.reduce((sum, { size }) => sum + size, 0));
  let before = 0;
  biases.forEach(({ size, tensor }, which) => {
    const values = tensor?.toFloat32();
    for (let i = 0; i < size; i++) all[interleave ? i * biases.length + which : before + i] = values ? values[i] : 0;
    before += size;
  });
  return gpu.upload(all, "weights");
}
