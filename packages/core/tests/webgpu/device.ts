import { appendFileSync } from "node:fs";
import { LongctxError } from "@longctx/core";
import { chooseAdapter, gpuSource } from "../../src/webgpu/device/adapter.ts";
import {
  capabilitiesOf,
  deviceDescriptor,
  workingFeatures,
  type Feature,
} from "../../src/webgpu/device/capabilities.ts";
import { Gpu } from "../../src/webgpu/device/gpu.ts";
import { openGpu } from "../../src/webgpu/open-gpu.ts";
import type { GpuSlice } from "../../src/webgpu/device/kernel.ts";

/** With LONGCTX_GPU=1 the tests are about a real GPU: none, or one that is a processor in disguise, fails them. */
const HARDWARE = process.env.LONGCTX_GPU === "1";

/** The device of this machine, or null where there is none; a test file that gets null says that it skips. */
export async function gpuOrNull(): Promise<Gpu | null> {
  try {
    const gpu = await openGpu({ hardwareOnly: HARDWARE });
    note(gpu);
    return gpu;
  } catch (error) {
    if (HARDWARE) throw error;
    if (!(error instanceof LongctxError && error.code === "device")) throw error;
    process.stderr.write(`Skipped, for there is no WebGPU device here: ${error.message}\n`);
    return null;
  }
}

/**
 * A device of its own that passes for a hardware GPU, so that what is made for those runs here too: whatever adapter it
 * is, kernels and plans are those of hardware. Only for tests that skip where `gpuOrNull` gives null.
 */
export async function gpuAsHardware(without: readonly Feature[] = []): Promise<Gpu> {
  const source = await gpuSource();
  const { adapter, name } = await chooseAdapter(source.gpu, HARDWARE);
  const device = await adapter.requestDevice(deviceDescriptor(adapter, without));
  return new Gpu(source, device, name, capabilitiesOf(device, await workingFeatures(device), adapter.info, false));
}

/** The summary of .ci/run tells which adapter the tests ran on. */
function note({ name, capabilities }: Gpu): void {
  const report = process.env.LONGCTX_TEST_REPORT;
  if (report) appendFileSync(`${report}.adapters`, `${capabilities.software ? "software" : "hardware"}\t${name}\n`);
}

export async function floats(gpu: Gpu, slice: GpuSlice): Promise<Float32Array> {
  const bytes = await gpu.read(slice);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** The largest difference in units of the largest expected number. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    // Written so that what is no number is an infinite error.
    const off = Math.abs(actual[i] - expected[i]);
    difference = off <= difference ? difference : Number.isNaN(off) ? Infinity : off;
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return actual.length === expected.length ? difference / largest : Infinity;
}
