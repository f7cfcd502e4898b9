import type { WeightTensor } from "../../model/weights.ts";
import type { Gpu } from "../device/gpu.ts";
import type { GpuSlice } from "../device/kernel.ts";
import { canInterleave, packMatrices, type GpuMatrix, type PackOptions } from "./weights-packed.ts";

/** What goes to the device step by step; each tells how many bytes of the checkpoint went with it. */
export type UploadSteps<Result> = Generator<number, Result, undefined>;

/** One matrix below the other, as packed parts on the device: one where the types agree and a binding can hold it. */
export function* matrixSteps(
  gpu: Gpu,
  tensors: readonly WeightTensor[],
  options?: Partial<PackOptions>,
): UploadSteps<GpuMatrix[]> {
  const matrices: GpuMatrix[] = [];
  const { maxBinding, maxBuffer } = gpu.capabilities;
  for (const part of packMatrices(tensors, { maxBinding: Math.min(maxBinding, maxBuffer), ...options })) {
    const { type, first, rows, columns, blocks } = part;
    const codes = gpu.allocate(part.codeBytes, "weights");
    const scales = part.scaleBytes > 0 ? gpu.allocate(part.scaleBytes, "weights") : null;
    for (const piece of part.pieces()) {
      gpu.write(codes, piece.codes, piece.codesAt);
      if (scales && piece.scales) gpu.write(scales, piece.scales, piece.scalesAt);
      yield piece.stored;
    }
    matrices.push({ type, first, rows, columns, blocks, codes, scales });
  }
  return matrices;
}

/** The same in one go. */
export function uploadMatrices(
  gpu: Gpu,
  tensors: readonly WeightTensor[],
  options?: Partial<PackOptions>,
): GpuMatrix[] {
  const steps = matrixSteps(gpu, tensors, options);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/** Matrices of several types cannot have their rows by turns; rare enough to be kept as they are computed with. */
export function interleavable(tensors: readonly WeightTensor[]): readonly WeightTensor[] {
  return tensors.every((tensor) => canInterleave(tensor, tensors[0])) ? tensors : tensors.map(inFloats);
}

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
