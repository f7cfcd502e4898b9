import { afterAll, describe, expect, it, vi } from "vitest";
import { compose, LanguageModel } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { gpuSource } from "../../../src/webgpu/device/adapter.ts";
import type { GpuSource } from "../../../src/webgpu/device/gpu-source.ts";
import { createWebGpu } from "../../../src/webgpu/index.ts";
import { largestDifference, readText, tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { gpuOrNull } from "../device.ts";
import { failure } from "../failure.ts";

const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());

/** A driver that computes on a processor compiles each kernel for seconds the first time, and keeps it on disk. */
vi.setConfig({ testTimeout: 300_000 });

const config = tinyConfig({ headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } });
const weights = tinyWeights(config);
const ids = tinyIds(20);

/** The runtime's own source, and the devices that it gave: destroying one is how it gets lost here. */
async function watchedSource(): Promise<{ readonly source: GpuSource; readonly devices: GPUDevice[] }> {
  const own = await gpuSource();
  const devices: GPUDevice[] = [];
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = await own.gpu.requestAdapter(options);
    if (!adapter) return null;
    const requestDevice = async (descriptor?: GPUDeviceDescriptor) => {
      const device = await adapter.requestDevice(descriptor);
      devices.push(device);
      return device;
    };
    return { info: adapter.info, features: adapter.features, limits: adapter.limits, requestDevice };
  };
  return { source: { gpu: { requestAdapter } as unknown as GPU, release: () => own.release() }, devices };
}

const modelOf = (backend: ConstructorParameters<typeof LanguageModel>[0]["backend"]) =>
  new LanguageModel({ backend, tokenizer: null, chatTemplate: null });

describe.skipIf(!gpu)("a device that is lost", () => {
  it("is said with what was on it, by every session of its own, and nobody else notices", async () => {
    const { source, devices } = await watchedSource();
    const other = await createWebGpu(config, weights, { device: gpu });
    const backend = await createWebGpu(config, weights, { source });
    const model = modelOf(backend);
    const [session, second] = [model.session({ capacity: 32 }), model.session({ capacity: 32 })];
    await session.prefill(ids.slice(0, 5));
    await second.prefill(ids.slice(0, 3));
    const held = backend.gpu.ledger.describe();

    devices[0].destroy();
    const said = await failure(() => session.prefill(ids.slice(5)));
    expect(said).toMatch(/^device: The WebGPU device .* was lost \(.*\); /);
    expect(said).toContain(held);
    expect(said).toMatch(/are gone\. Load the model again/);
    for (const act of [
      () => second.prefill([1]),
      () => second.generate({ maxNew: 2, stopTokens: [] }).complete(),
      () => session.fork().prefill([1]),
      () => session.save(),
      () => model.session({ capacity: 32 }).prefill([1]),
    ])
      expect(await failure(act)).toMatch(/^device: /);
    expect(await failure(() => second.prefill([1]))).toMatch(/was lost/);
    session.dispose();
    second.dispose();
    await model.dispose();

    const expected = await readText(createReference(config, weights), compose(), ids);
    expect(largestDifference(await readText(other, compose(), ids), expected)).toBeLessThan(1e-4);
    await other.dispose();
    const again = await createWebGpu(config, weights, { source: (await watchedSource()).source });
    expect(largestDifference(await readText(again, compose(), ids), expected)).toBeLessThan(1e-4);
    await again.dispose();
  });

  it("is said by a call that waits for it just then", async () => {
    const { source, devices } = await watchedSource();
    const backend = await createWebGpu(config, weights, { source });
    const session = modelOf(backend).session({ capacity: 32 });
    const reading = failure(() => session.prefill(ids));
    devices[0].destroy();
    expect(await reading).toMatch(/^device: The WebGPU device .* was lost/);
    await backend.dispose();
  });
});
