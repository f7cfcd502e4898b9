import { afterAll, describe, expect, it, vi } from "vitest";
import { compose, TENSOR_TYPES, type Precision, type WeightTensor } from "@longctx/core";
import { createWebGpu } from "../../../src/webgpu/index.ts";
import type { Capabilities } from "../../../src/webgpu/device/kernel.ts";
import { productTiling } from "../../../src/webgpu/products/product-path.ts";
import { tileMemory } from "../../../src/webgpu/products/product-tile.ts";
import type { SquareTiling } from "../../../src/webgpu/device/tilings.ts";
import { squareTiling, tiledProduct, tiledProductKernel } from "../../../src/webgpu/products/product-tiled.ts";
import type { Product } from "../../../src/webgpu/products/product.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { LEAST } from "../attention/attention-scene.ts";
import { gpuOrNull } from "../device.ts";
import { MockGpu, type MockOptions } from "../mock-gpu.ts";
import { planOf } from "../plan-of.ts";
import { columnsOf, errorOf as errorOn, KEY, type Case } from "./product-scene.ts";
import { noisy } from "../weights/stored-weights.ts";
import { workgroupMemory } from "../workgroup-memory.ts";

const HARDWARE: Capabilities = { ...LEAST, f16: true };
const SHAPE = { tokens: 512, rows: 576, blocks: 18 };

describe("tiles of halves", () => {
  it("are for models that are fast, on GPUs with halves", () => {
    const half = (precision: Precision | undefined, capabilities: Capabilities) =>
      squareTiling({ ...SHAPE, precision }, capabilities).half;
    expect(half("fast", HARDWARE)).toBe(true);
    for (const precision of ["exact", undefined] as const) expect(half(precision, HARDWARE)).toBeUndefined();
    expect(half("fast", LEAST)).toBeUndefined();
    expect(half("fast", { ...HARDWARE, software: true })).toBeUndefined();
    expect(productTiling(KEY, { ...SHAPE, precision: "fast" }, HARDWARE)).toMatchObject({ path: "tiles", half: true });
    expect(productTiling(KEY, { ...SHAPE, tokens: 8, precision: "fast" }, HARDWARE).path).toBe("rows");
  });

  it("have the sizes of those of floats, and take less memory", () => {
    for (const tokens of [16, 64, 2048]) {
      const { half, ...sizes } = squareTiling({ tokens, rows: 1536, precision: "fast" }, HARDWARE);
      expect([half, sizes]).toEqual([true, squareTiling({ tokens, rows: 1536 }, HARDWARE)]);
      expect(tileMemory({ ...sizes, half })).toBeLessThan(0.7 * tileMemory(sizes));
      for (const tiling of [sizes, { ...sizes, half }])
        expect(workgroupMemory(tiledProductKernel(KEY, tiling).code)).toBe(tileMemory(tiling));
    }
  });

  it("are tuned apart from those of floats", () => {
    const exact = { path: "tiles", side: 8, wide: 8, tall: 4 } as const;
    const fast = { path: "tiles", side: 16, wide: 4, tall: 8, half: true } as const;
    const products = { "many rows, plain": exact, "many rows, plain, fast": fast };
    const tuned = { ...HARDWARE, tuning: { products, tiles: {}, pieces: {} } };
    const tiling = (precision: Precision, capabilities: Capabilities) =>
      productTiling(KEY, { ...SHAPE, precision }, capabilities);
    expect(tiling("exact", tuned)).toEqual(exact);
    expect(tiling("fast", tuned)).toEqual(fast);
    expect(tiling("fast", { ...tuned, f16: false })).toEqual(exact);
  });
});

describe("on a mocked GPU, the products of", () => {
  /** Kernels of 20 tokens and then of one, and whether any module has tiles of halves. */
  const run = async (precision: Precision, options: MockOptions) => {
    const mock = new MockGpu(options);
    const config = tinyConfig();
    const backend = await createWebGpu(config, tinyWeights(config), { source: mock.source, precision });
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    const read = async (ids: readonly number[]) => {
      mock.dispatched = [];
      await backend.forward({
        state: cache,
        ids,
        plan: planOf(config, compose(), cache, ids.length),
        logitRows: ids.length,
      });
      return mock.dispatched.filter((name) => name.startsWith("product"));
    };
    const [many, one] = [await read(tinyIds(20)), await read([1])];
    await backend.dispose();
    return { many, one, halves: mock.modules.some((code) => code.includes("var<workgroup> tile: array<vec4<f16>")) };
  };
  const features = ["shader-f16"];

  it("a fast model are of halves where there are many tokens, and nowhere else", async () => {
    const { many, one } = await run("fast", { features });
    expect(many.length).toBeGreaterThan(4);
    for (const name of many) expect(name).toMatch(/ tiles 16 4 \d half$/);
    for (const name of one) expect(name).toMatch(/ rows /);
  });

  it.each([
    ["an exact model", "exact", { features }],
    ["a fast model on a device without halves", "fast", {}],
    ["a fast model on a processor", "fast", { features, description: "llvmpipe" }],
  ] as const)("%s are never of halves", async (_, precision, options) => {
    const { many, halves } = await run(precision, options);
    expect(many.filter((name) => name.includes("half"))).toEqual([]);
    expect(halves).toBe(false);
  });
});

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());
if (gpu && !gpu.capabilities.f16) process.stderr.write("Skipped: tiles of halves, for the device has no shader-f16.\n");
vi.setConfig({ testTimeout: 120_000 });

/** Of the largest output: rounding to nearest leaves about 7e-4, conversions that cut off, as lavapipe has, 1.5e-3. */
const TOLERANCE = 2e-3;
/** What floats leave at most. */
const EXACT = 2e-6;

describe.skipIf(!gpu?.capabilities.f16)("on the device, a product of halves", () => {
  const LEAST_TILE: SquareTiling = { side: 8, wide: 2, tall: 1, half: true };
  const errorOf = (
    type: WeightTensor["type"],
    shape: readonly [number, number, number],
    { tiling = LEAST_TILE, ...work }: Case & { readonly tiling?: SquareTiling } = {},
  ) => {
    const make = (product: Product, capabilities: Capabilities) => tiledProduct(product, capabilities, tiling);
    return errorOn(gpu!, make, type, shape, work);
  };

  it.each(TENSOR_TYPES)("with %s is near the one in float64", async (type) => {
    const error = await errorOf(type, [13, 37, columnsOf(type)]);
    expect(error).toBeLessThan(TOLERANCE);
    expect(error).toBeGreaterThan(EXACT);
  });

  it("has several rows and tokens an invocation, more of them than one pass loads", async () => {
    for (const tiling of [
      { side: 8, wide: 4, tall: 4, half: true },
      { side: 16, wide: 4, tall: 2, half: true },
    ] as const)
      expect(await errorOf("Q4_0", [41, 70, 96], { tiling })).toBeLessThan(TOLERANCE);
  });

  it("adds a bias, adds to its output, caps, and joins gate and up", async () => {
    expect(await errorOf("F32", [13, 39, 36], { bias: true, product: { cap: 20 } })).toBeLessThan(TOLERANCE);
    expect(await errorOf("Q8_0", [13, 64, 64], { product: { add: true } })).toBeLessThan(TOLERANCE);
    expect(await errorOf("Q4_1", [13, 74, 64], { bias: true, activation: "silu" })).toBeLessThan(2 * TOLERANCE);
  });

  // Halves end at 65,504, and a sum of a few products of thousands is beyond.
  it.each([
    ["of 10,000", (value: number) => 1e4 * value],
    ["of 100,000", (value: number) => 1e5 * value],
    ["of 10⁻⁷", (value: number) => 1e-7 * value],
    ["with one of 100,000 in each row", (value: number, column: number) => (column === 17 ? 1e5 : value)],
    ["with one of 10⁻³⁰ in each row", (value: number, column: number) => (column === 17 ? 1e-30 : value)],
    ["of 10³⁰", (value: number) => 1e30 * value],
  ] as const)("is as near for inputs %s", async (_, input) => {
    for (const type of ["F32", "Q8_0", "Q4_1"] as const)
      expect(await errorOf(type, [13, 37, 96], { input })).toBeLessThan(TOLERANCE);
  });

  it.each([1e6, 1e-6, 1e20])("is as near for weights of %d", async (size) => {
    const matrix = floatMatrix(37, 96, (value) => size * value);
    expect(await errorOf("F32", [13, 37, 96], { matrix })).toBeLessThan(TOLERANCE);
  });

  it("loses nothing of a block to large inputs in another", async () => {
    // The large inputs of columns 32 to 63 meet weights of zero.
    const matrix = floatMatrix(37, 96, (value, column) => (column >> 5 === 1 ? 0 : value));
    const input = (value: number, column: number) => (column >> 5 === 1 ? 1e5 * value : value);
    expect(await errorOf("F32", [13, 37, 96], { matrix, input })).toBeLessThan(TOLERANCE);
  });

  it("takes rows and weights of nothing but zeros", async () => {
    const zero = () => 0;
    expect(await errorOf("F32", [13, 37, 96], { bias: true, input: zero })).toBeLessThan(EXACT);
    const matrix = floatMatrix(37, 96, zero);
    expect(await errorOf("F32", [13, 37, 96], { bias: true, matrix })).toBeLessThan(EXACT);
  });
});

function floatMatrix(rows: number, columns: number, change: (value: number, column: number) => number): WeightTensor {
  const values = noisy(rows * columns, 3).map((value, i) => change(value, i % columns));
  return {
    name: "a matrix of floats",
    type: "F32",
    shape: [rows, columns],
    bytes: () => new Uint8Array(values.slice().buffer),
    toFloat32: () => values,
  };
}
