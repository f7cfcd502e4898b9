import type { Precision } from "../backend/backend.ts";
import {
  ANY_ACTIVATION,
  checkComputes,
  DESCRIPTION,
  EXPERTS,
  FLAG,
  oneOf,
  optional,
  POSITIVE,
  RMS_NORM,
  type Computes,
} from "../backend/computes.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Weights } from "../model/weights.ts";
import { alignModel, type AlignedModel } from "./weights/aligned.ts";
import { headNorms, weightSteps } from "./weights/decoder-weights.ts";
import { DecoderStages } from "./decoder/decoder-stages.ts";
import type { Gpu } from "./device/gpu.ts";
import { openGpu, type GpuOptions } from "./open-gpu.ts";
import { attentionShape } from "./attention/attention-shape.ts";
import { AttentionKernels } from "./attention/attention.ts";
import { checkSignal, unlessAborted, uploadInSlices, type LoadingOptions } from "./weights/upload-in-slices.ts";
import { WebGpuBackend } from "./decoder/webgpu-backend.ts";
import { storedBytes } from "./weights/weights-packed.ts";
import { Workspace } from "./device/workspace.ts";

export interface WebGpuOptions extends GpuOptions, LoadingOptions {
  /** `fast` keeps keys and values in 16 bits, and multiplies chunks of more than 8 tokens in 16 bits on GPUs that do. */
  readonly precision?: Precision;
  /** A device that is open already; it stays open when the backend is disposed of. */
  readonly device?: Gpu;
}

/** What webgpu computes of a model; a mixture of experts behind norms is refused when its weights are read. */
const COMPUTES: Computes = {
  ...DESCRIPTION,
  norm: RMS_NORM,
  feedForward: oneOf("gated"),
  experts: optional(EXPERTS),
  activation: ANY_ACTIVATION,
  position: oneOf("rope"),
  postNorms: optional(FLAG),
  embeddingScale: optional(POSITIVE),
  attentionScale: optional(POSITIVE),
  logitSoftCap: optional(POSITIVE),
  attentionSoftCap: optional(POSITIVE),
};

/**
 * The model on a GPU: weights packed as they are stored, one compute pass a chunk or token. The checkpoint may be closed
 * then, for nothing more is read of it. While it is loaded the thread is held for some milliseconds at a time.
 * @throws LongctxError "config" for a model it does not compute, "device" when there is no adapter, or not the one asked
 * for, "aborted" on the signal
 */
export async function createWebGpu(
  config: ModelConfig,
  weights: Weights,
  options: WebGpuOptions = {},
): Promise<WebGpuBackend> {
  checkComputes("webgpu", COMPUTES, config, "reference");
  checkSignal(options.signal);
  const gpu = options.device ?? (await openGpu(options));
  let backend: WebGpuBackend | undefined;
  try {
    backend = await uploaded(gpu, config, weights, options);
    await unlessAborted(backend.prepare(), options.signal);
    return backend;
  } catch (error) {
    await backend?.dispose(); // a device that others use stays open, without these weights
    if (!options.device) gpu.destroy();
    throw error;
  }
}

async function uploaded(
  gpu: Gpu,
  config: ModelConfig,
  weights: Weights,
  { precision = "exact", device, onWeights, signal }: WebGpuOptions,
): Promise<WebGpuBackend> {
  const { capabilities } = gpu;
  const model = alignModel(config, weights);
  const shape = attentionShape(model.config, precision === "fast" ? "f16" : "f32");
  const attention = new AttentionKernels(shape, capabilities, config.queryKeyNorm ? model.headEpsilon : null);
  const headGains = config.queryKeyNorm
    ? Array.from({ length: config.layerCount }, (_, layer) => headNorms(weights, layer, config.headSize))
    : null;
  const total = totalBytes(model);
  const { result, slices } = await uploadInSlices(gpu, weightSteps(gpu, model), {
    signal,
    onBytes: (done) => onWeights?.(Math.min(done, total), total),
  });
  onWeights?.(total, total); // norms and biases too
  const workspace = new Workspace(gpu);
  const stages = new DecoderStages(model, result, capabilities, workspace, precision);
  const decoder = { gpu, config, model, weights: result, headGains, workspace, stages, attention };
  return new WebGpuBackend(decoder, { precision, weights: slices, ownsDevice: device === undefined });
}

function totalBytes({ weights }: AlignedModel): number {
  return [...weights.names()].reduce((sum, name) => sum + storedBytes(weights.find(name)!), 0);
}
