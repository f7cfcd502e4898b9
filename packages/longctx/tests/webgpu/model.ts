import { vi } from "vitest";
import { LanguageModel, type ModelConfig, type Weights } from "@longctx/core";
import { createWebGpu } from "@longctx/core/webgpu";
import { gpuOrNull } from "../../../core/tests/webgpu/device.ts";

/** One device for all tests of a file; null, which skips them with a reason, where this machine has none. */
export const gpu = await gpuOrNull();

/** A driver that computes on a processor compiles each kernel for seconds the first time, and keeps it on disk. */
vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

/** How far logits of a few units may be from the definition. */
export const TOLERANCE = 1e-3;

export async function modelOnGpu(
  config: ModelConfig,
  weights: Weights,
  trainedWindow?: number,
): Promise<LanguageModel> {
  const backend = await createWebGpu(config, weights, { device: gpu! });
  return new LanguageModel({ backend, weights, tokenizer: null, chatTemplate: null, trainedWindow });
}
