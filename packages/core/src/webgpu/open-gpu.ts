import { LongctxError } from "../common/errors.ts";
import { chooseAdapter, gpuSource } from "./device/adapter.ts";
import { capabilitiesOf, deviceDescriptor, workingFeatures, type Feature } from "./device/capabilities.ts";
import { Gpu } from "./device/gpu.ts";
import type { GpuSource } from "./device/gpu-source.ts";
import { tuningOf, type TuningSource } from "./tuning/stored-tuning.ts";

export interface GpuOptions extends TuningSource {
  /** Refuse adapters that compute on a processor. */
  readonly hardwareOnly?: boolean;
  /** Features to do without although they are there. */
  readonly without?: readonly Feature[];
  /** In place of the runtime's own. */
  readonly source?: GpuSource;
}

/** @throws LongctxError "device" when this machine has no adapter, or not the one asked for */
export async function openGpu(options: GpuOptions = {}): Promise<Gpu> {
  const source = options.source ?? (await gpuSource());
  try {
    const { adapter, name, id, software } = await chooseAdapter(source.gpu, options.hardwareOnly ?? false);
    let device: GPUDevice;
    try {
      device = await adapter.requestDevice(deviceDescriptor(adapter, options.without));
    } catch (cause) {
      throw new LongctxError("device", `The WebGPU adapter ${name} gives no device: ${String(cause)}`, { cause });
    }
    try {
      const capabilities = capabilitiesOf(device, await workingFeatures(device), adapter.info, software);
      return new Gpu(source, device, name, { ...capabilities, tuning: await tuningOf(options, id, capabilities) }, id);
    } catch (error) {
      device.destroy();
      throw error;
    }
  } catch (error) {
    source.release();
    throw error;
  }
}
