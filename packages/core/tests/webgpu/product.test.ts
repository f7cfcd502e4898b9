import { afterAll, describe, expect, it } from "vitest";
import { TENSOR_TYPES, type TensorType } from "@longctx/core";
import { equalSubgroups, type Capabilities } from "../../src/webgpu/kernel.ts";
import { broadcastProduct, planBroadcastProduct } from "../../src/webgpu/kernels/product-broadcast.ts";
import { planRowProduct, rowProduct, withBroadcast, type RowPlan } from "../../src/webgpu/kernels/product-row.ts";
import { planTiledProduct, tiledProduct, type TilePlan } from "../../src/webgpu/kernels/product-tiled.ts";
import type { Product } from "../../src/webgpu/kernels/product.ts";
import { uploadBiases } from "../../src/webgpu/weights-upload.ts";
import { floats, gpuOrNull } from "./device.ts";
import { columnsOf, errorOf as errorOn, KEY } from "./product-scene.ts";
import { storedMatrix } from "./stored-weights.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

const ROW_PLANS: readonly RowPlan[] = [
  { lanes: 1, teams: 8, rows: 2, tokens: 2, unit: "block" },
  { lanes: 8, teams: 4, rows: 2, tokens: 1, unit: "quarter" },
  { lanes: 32, teams: 4, rows: 4, tokens: 2, unit: "block" },
];

/** Large tiles cost seconds to compile on a processor, so only some types have them. */
const tilePlansOf = (type: TensorType): readonly TilePlan[] => [
  { side: 16, wide: 4, tall: type === "Q4_K" ? 2 : 1 },
  ...(type === "F32" || type === "Q4_0"
    ? ([
        { side: 8, wide: 8, tall: 2 },
        { side: 16, wide: 4, tall: 4 },
      ] as const)
    : []),
];

describe("the plan of a product", () => {
  const hardware = { software: false };

  it("gives a lane less to take where rows are short", () => {
    expect(planRowProduct(KEY, { tokens: 1, rows: 576, blocks: 18 }, hardware)).toMatchObject({
      lanes: 32,
      unit: "quarter",
    });
    const long = planRowProduct({ ...KEY, type: "Q4_0" }, { tokens: 1, rows: 4096, blocks: 128 }, hardware);
    expect(long).toMatchObject({ lanes: 32, unit: "block" });
  });

  it("keeps rows of gate and up in one invocation", () => {
    for (const software of [false, true])
      expect(
        planRowProduct({ ...KEY, activation: "silu" }, { tokens: 1, rows: 64, blocks: 2 }, { software }).rows % 2,
      ).toBe(0);
  });

  it("has no sum over lanes on a processor", () => {
    expect(planRowProduct(KEY, { tokens: 1, rows: 64, blocks: 2 }, { software: true }).lanes).toBe(1);
  });

  it("has high tiles only where there are enough of them", () => {
    expect(planTiledProduct({ tokens: 2048, rows: 1536 }).tall).toBe(4);
    expect(planTiledProduct({ tokens: 16, rows: 576 }).tall).toBe(1);
    expect(planTiledProduct({ tokens: 64, rows: 576 }).tall).toBe(1);
  });
});

describe("products by broadcast", () => {
  const eights = { smallest: 8, largest: 8 };
  const plan: RowPlan = { lanes: 1, teams: 8, rows: 1, tokens: 1, unit: "block" };

  it("are for processors with subgroups of one size", () => {
    expect(planBroadcastProduct({ software: true, subgroups: eights })).toEqual({ lanes: 8, rows: 2, tokens: 2 });
    const fours = { smallest: 4, largest: 4 };
    expect(planBroadcastProduct({ software: true, subgroups: fours })).toEqual({ lanes: 4, rows: 2, tokens: 4 });
    expect(planBroadcastProduct({ software: false, subgroups: eights })).toBeNull();
    for (const subgroups of [null, { smallest: 4, largest: 8 }, { smallest: 32, largest: 32 }])
      expect(planBroadcastProduct({ software: true, subgroups })).toBeNull();
  });

  it("share what rows read of the input, one vector an invocation", () => {
    const capabilities = { software: true, subgroups: { smallest: 4, largest: 4 } } as Capabilities;
    expect(withBroadcast(plan, capabilities)).toEqual({ ...plan, teams: 4, broadcast: 4 });
    expect(withBroadcast(plan, { ...capabilities, subgroups: null })).toBe(plan);
    expect(withBroadcast(plan, { ...capabilities, software: false })).toBe(plan);
  });
});

type Work = Parameters<typeof errorOn> extends [unknown, ...infer Rest] ? Rest : never;
const errorOf = (...work: Work) => errorOn(gpu!, ...work);

describe.skipIf(!gpu).each(TENSOR_TYPES)("a product with %s", (type) => {
  it("by rows is the one in float64, whatever the plan", async () => {
    for (const plan of ROW_PLANS) {
      const make = (product: Product, capabilities: Capabilities) => rowProduct(product, capabilities, plan);
      expect(await errorOf(make, type, [3, 37, columnsOf(type)])).toBeLessThan(2e-6);
    }
  });

  it("by tiles is the one in float64, whatever the plan", async () => {
    for (const plan of tilePlansOf(type)) {
      const make = (product: Product, capabilities: Capabilities) => tiledProduct(product, capabilities, plan);
      expect(await errorOf(make, type, [41, 70, columnsOf(type)])).toBeLessThan(2e-6);
    }
  });
});

const lanes = gpu && equalSubgroups(gpu.capabilities);
if (gpu && !lanes)
  process.stderr.write("Skipped: products by broadcast, for subgroups here are not of one small size.\n");

describe.skipIf(!lanes)("a product by broadcast", () => {
  const make = (rows: number, tokens: number) => (product: Product, capabilities: Capabilities) =>
    broadcastProduct(product, capabilities, { lanes: lanes!, rows, tokens });

  it.each(TENSOR_TYPES)("with %s is the one in float64", async (type) => {
    expect(await errorOf(make(1, 1), type, [11, 37, columnsOf(type)])).toBeLessThan(2e-6);
    const rows: RowPlan = { lanes: 1, teams: lanes!, rows: 1, tokens: 1, unit: "block", broadcast: lanes! };
    const byRows = (product: Product, capabilities: Capabilities) => rowProduct(product, capabilities, rows);
    expect(await errorOf(byRows, type, [3, 37, columnsOf(type)])).toBeLessThan(2e-6);
  });

  it("has several rows and tokens an invocation, a bias, a cap, and joins gate and up", async () => {
    expect(await errorOf(make(2, 2), "F32", [41, 70, 36], { bias: true, product: { cap: 0.5 } })).toBeLessThan(3e-6);
    expect(await errorOf(make(2, 1), "Q4_1", [9, 74, 64], { bias: true, activation: "silu" })).toBeLessThan(5e-6);
    expect(await errorOf(make(4, 1), "Q8_0", [20, 64, 64], { product: { add: true } })).toBeLessThan(3e-6);
  });
});

describe.skipIf(!gpu)("a product by rows", () => {
  const all = (product: Product, capabilities: Capabilities) => rowProduct(product, capabilities);

  it("has an odd vocabulary and an odd hidden size", async () => {
    expect(await errorOf(all, "F32", [1, 251, 36])).toBeLessThan(2e-6);
    expect(await errorOf(all, "F16", [2, 251, 36], { bias: true })).toBeLessThan(2e-6);
  });

  it.each(ROW_PLANS)(
    "normalises its input, adds to its output and joins gate and up, with $lanes lanes",
    async (plan) => {
      const make = (product: Product, capabilities: Capabilities) => rowProduct(product, capabilities, plan);
      expect(await errorOf(make, "F32", [1, 64, 36], { norm: true })).toBeLessThan(3e-6);
      expect(await errorOf(make, "Q6_K", [3, 40, 256], { norm: true, bias: true })).toBeLessThan(3e-6);
      expect(await errorOf(make, "Q4_1", [1, 64, 64], { product: { add: true } })).toBeLessThan(3e-6);
      for (const activation of ["silu", "gelu", "gelu-tanh"] as const)
        expect(await errorOf(make, "Q4_0", [2, 74, 64], { norm: true, bias: true, activation })).toBeLessThan(5e-6);
    },
  );

  it("caps logits", async () => {
    expect(await errorOf(all, "BF16", [1, 251, 64], { product: { cap: 0.5 } })).toBeLessThan(3e-6);
  });

  it("takes a matrix in parts", async () => {
    expect(await errorOf(all, "Q4_K", [1, 251, 256], { maxBinding: 128 * 40, bias: true })).toBeLessThan(3e-6);
  });

  it("has more than 65,535 workgroups", async () => {
    const plan: RowPlan = { lanes: 1, teams: 1, rows: 1, tokens: 1, unit: "quarter" };
    const make = (product: Product, capabilities: Capabilities) =>
      rowProduct(product, { ...capabilities, maxWorkgroupsPerDimension: 65535 }, plan);
    expect(await errorOf(make, "F32", [1, 66_000, 4])).toBeLessThan(2e-6);
  });
});

describe.skipIf(!gpu)("a product by tiles", () => {
  it("adds a bias, adds to its output and joins gate and up", async () => {
    expect(await errorOf(tiledProduct, "F32", [33, 251, 36], { bias: true })).toBeLessThan(3e-6);
    expect(await errorOf(tiledProduct, "Q8_0", [20, 64, 64], { product: { add: true } })).toBeLessThan(3e-6);
    expect(await errorOf(tiledProduct, "Q4_1", [20, 74, 64], { bias: true, activation: "silu" })).toBeLessThan(5e-6);
  });
});

describe.skipIf(!gpu)("biases", () => {
  it("are zeros where a model has none, and by turns for interleaved rows", async () => {
    const bias = (values: number[]) => ({ ...storedMatrix("F32", 1, 1), toFloat32: () => Float32Array.from(values) });
    const both = uploadBiases(
      gpu!,
      [
        { size: 2, tensor: bias([1, 2]) },
        { size: 2, tensor: undefined },
      ],
      true,
    )!;
    expect([...(await floats(gpu!, both))]).toEqual([1, 0, 2, 0]);
    expect(uploadBiases(gpu!, [{ size: 2, tensor: undefined }])).toBeNull();
  });
});
