import type { ModelConfig } from "../../model/config.ts";
import type { AttentionKernels } from "../attention/attention.ts";
import type { Gpu } from "../device/gpu.ts";
import type { Workspace } from "../device/workspace.ts";
import type { AlignedModel } from "../weights/aligned.ts";
import type { GpuWeights } from "../weights/decoder-weights.ts";
import type { DecoderStages } from "./decoder-stages.ts";

/** A model on a device, with all it needs to read. */
export interface Decoder {
  readonly gpu: Gpu;
  /** The model's own description; `model` has the sizes on the device. */
  readonly config: ModelConfig;
  readonly model: AlignedModel;
  readonly weights: GpuWeights;
  /** Of each layer the gains of q's norm and k's, [2, D], on the host for hooks; null where the model has none. */
  readonly headGains: readonly Float32Array[] | null;
  readonly workspace: Workspace;
  readonly stages: DecoderStages;
  readonly attention: AttentionKernels;
}
