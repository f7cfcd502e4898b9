import { describe, expect, it } from "vitest";
import { makeDraws } from "@longctx/core";
import { openGpu } from "../../../src/webgpu/index.ts";
import { argmax } from "../../../src/webgpu/sampling/argmax.ts";
import { embed } from "../../../src/webgpu/products/embedding.ts";
import { productDispatch } from "../../../src/webgpu/products/product-path.ts";
import { sample } from "../../../src/webgpu/sampling/sample.ts";
import { readBatches } from "../../../src/webgpu/device/readback.ts";
import { uploadMatrices } from "../../../src/webgpu/weights/weights-upload.ts";
import { MockGpu } from "../mock-gpu.ts";
import { storedMatrix } from "../weights/stored-weights.ts";

const gpuOn = (mock: MockGpu) => openGpu({ source: mock.source });

describe("what is read", () => {
  it("is cut into batches that are whole again together", () => {
    const sizes = [10, 0, 64, 3, 130];
    const batches = readBatches(
      sizes.map((size) => ({ size })),
      64,
    );
    const read = sizes.map(() => 0);
    for (const batch of batches) {
      let end = 0;
      for (const { index, from, size, at } of batch) {
        expect(from).toBe(read[index]);
        expect(from % 4).toBe(0);
        expect(at).toBeGreaterThanOrEqual(end);
        expect(at % 4).toBe(0);
        read[index] += size;
        end = at + size;
      }
      expect(end).toBeLessThanOrEqual(64);
    }
    expect(read).toEqual(sizes);
    expect(batches).toHaveLength(4);
  });

  it("takes at most 64 MiB at once, and what the device's largest buffer is", async () => {
    const mock = new MockGpu();
    const gpu = await gpuOn(mock);
    const bytes = 3 * 2 ** 26 + 8;
    expect(await gpu.read(gpu.allocate(bytes, "test"))).toHaveLength(bytes);
    expect(mock.largest.readback).toBe(2 ** 26);
    expect(mock.read).toBe(bytes);
    gpu.destroy();
    expect(mock.bytes).toBe(0);
    const small = new MockGpu({ limits: { maxBufferSize: 2 ** 20 } });
    const smallGpu = await gpuOn(small);
    const slices = [1, 2, 3].map(() => smallGpu.allocate(2 ** 20, "test"));
    expect(await smallGpu.runAndRead([], slices)).toHaveLength(3);
    expect(small.largest.readback).toBe(2 ** 20);
    smallGpu.destroy();
  });
});

it("matrices come in parts that fit the device's largest buffer, where a binding is larger", async () => {
  const mock = new MockGpu({ limits: { maxBufferSize: 2 ** 15, maxStorageBufferBindingSize: 2 ** 20 } });
  const gpu = await gpuOn(mock);
  const parts = uploadMatrices(gpu, [storedMatrix("F32", 256, 64)]);
  expect(parts.map(({ first, rows }) => [first, rows])).toEqual([
    [0, 128],
    [128, 128],
  ]);
  expect(mock.largest.weights).toBe(2 ** 15);
  gpu.destroy();
});

it("more dispatches are timed than a set of timestamps has room for", async () => {
  const mock = new MockGpu({ features: ["timestamp-query"] });
  const gpu = await gpuOn(mock);
  const slice = () => gpu.allocate(64, "test");
  const [dispatch] = argmax({ logits: slice(), size: 8, scratch: slice(), result: slice() });
  expect(await gpu.time(Array.from({ length: 2049 }, () => dispatch))).toHaveLength(2049);
  expect(mock.dispatched).toHaveLength(2049);
  gpu.destroy();
  expect(mock.bytes).toBe(0);
});

it("dispatches of the same code share their kernel, whose text is long", async () => {
  const mock = new MockGpu();
  const gpu = await gpuOn(mock);
  const [slice, other] = [gpu.allocate(4096, "test"), gpu.allocate(4096, "test")];
  const ends = { logits: slice, size: 8, scratch: slice, result: slice };
  const draw = { ...makeDraws({ temperature: 1 })([]), text: [] };
  const norm = { weight: slice, epsilon: 1e-5 };
  const [matrix] = uploadMatrices(gpu, [storedMatrix("Q8_0", 16, 64)]);
  const product = { matrix, tokens: 1, input: slice, output: other, outputStride: 16, norm };
  const dispatches = () => [
    ...argmax(ends),
    sample({ ...ends, draw }, gpu.capabilities),
    embed({ matrix, ids: slice, tokens: 1, output: other }, gpu.capabilities),
    productDispatch(product, gpu.capabilities),
    productDispatch({ ...product, norm: undefined, tokens: 64 }, gpu.capabilities),
  ];
  const [first, second] = [dispatches(), dispatches()];
  first.forEach(({ kernel }, i) => expect(kernel).toBe(second[i].kernel));
  expect(new Set(first.map(({ kernel }) => kernel.name)).size).toBe(first.length);
  gpu.destroy();
});

it.each([
  ["NVIDIA H200", "565.57.01", "NVIDIA H200: 565.57.01"],
  ["NVIDIA H200", "NVIDIA H200", "NVIDIA H200"],
  ["llvmpipe (LLVM 15.0.6, 256 bits)", "llvmpipe", "llvmpipe (LLVM 15.0.6, 256 bits)"],
  ["llvmpipe-256-bits-", "llvmpipe: Mesa 25", "llvmpipe-256-bits: llvmpipe: Mesa 25"],
  ["0x1234", "", "0x1234"],
  ["", "SwiftShader Device", "SwiftShader Device"],
])("an adapter %j that describes itself as %j is called %j", async (device, description, name) => {
  const gpu = await gpuOn(new MockGpu({ device, description }));
  expect(gpu.name).toBe(name);
  gpu.destroy();
});
