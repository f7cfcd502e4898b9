import { createCpuBackend, HAS_CPU, storedTuning } from "#platform";
import { LongctxError, type Backend, type Precision } from "@longctx/core";
import type { LoadingOptions, WebGpuOptions } from "@longctx/core/webgpu";
import type { Checkpoint } from "@longctx/loaders";

export const DEVICES = ["auto", "webgpu", "cpu", "reference"] as const;
export type Device = (typeof DEVICES)[number];

/** What computes, and why. */
export interface DeviceChoice {
  readonly device: Exclude<Device, "auto">;
  /** The name of the WebGPU adapter. */
  readonly adapter: string | null;
  /** A phrase for people: "as asked", "the only WebGPU adapter computes on the processor". */
  readonly reason: string;
}

/** Why `auto` did not take a GPU; the same for every model of a process. */
let refusal: string | null = null;

/**
 * Backends are loaded when they are asked for, so a program that only wants a frequency table loads none. `auto` takes a
 * GPU when there is one that is more than a processor in disguise and the model fits on it, else the cpu; in a page,
 * which has no device cpu, any adapter.
 */
export async function createBackend(
  checkpoint: Checkpoint,
  device: Device,
  precision: Precision,
  loading: LoadingOptions = {},
): Promise<{ readonly backend: Backend; readonly choice: DeviceChoice }> {
  const { config, weights } = checkpoint;
  const asked = { precision, onWeights: loading.onWeights, signal: loading.signal };
  if (device === "reference") {
    const { createReference } = await import("@longctx/core/reference");
    return { backend: createReference(config, weights), choice: { device, adapter: null, reason: "as asked" } };
  }
  if (device === "webgpu") return onGpu(checkpoint, asked, "as asked");
  if (device === "auto" && !HAS_CPU) return onGpu(checkpoint, asked, "the fast device of a page");
  let reason = "as asked";
  if (device === "auto") {
    try {
      if (refusal === null) return await onGpu(checkpoint, { ...asked, hardwareOnly: true }, "a hardware adapter");
      reason = refusal;
    } catch (error) {
      if (!(error instanceof LongctxError) || error.code === "aborted") throw error;
      reason = error.message;
      // No adapter stays none; a model that is too large for it says nothing of the next.
      if (/adapter|package webgpu/.test(reason)) refusal = reason;
    }
  }
  return {
    backend: await createCpuBackend(config, weights, precision),
    choice: { device: "cpu", adapter: null, reason },
  };
}

async function onGpu({ config, weights }: Checkpoint, options: WebGpuOptions, reason: string) {
  const { createWebGpu } = await import("@longctx/core/webgpu");
  const backend = await createWebGpu(config, weights, { ...options, ...storedTuning() });
  const { name, capabilities } = backend.gpu;
  const slow = capabilities.software ? "; it computes on the processor: right results, but slow" : "";
  return { backend, choice: { device: "webgpu" as const, adapter: name, reason: `${reason}${slow}` } };
}

/** "Device webgpu: NVIDIA H200 (a hardware adapter)." */
export function describeDevice({ device, adapter, reason }: DeviceChoice): string {
  const sentence = reason.endsWith(".") ? reason : `${reason}.`;
  return adapter ? `Device ${device}: ${adapter} (${reason}).` : `Device ${device}: ${sentence}`;
}
