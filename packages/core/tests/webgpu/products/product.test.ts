import { afterAll, describe, expect, it, vi } from "vitest";
import { TENSOR_TYPES, type Activation, type TensorType } from "@longctx/core";
import { equalSubgroups, type Capabilities } from "../../../src/webgpu/device/kernel.ts";
import { broadcastProduct, broadcastTiling } from "../../../src/webgpu/products/product-broadcast.ts";
import { rowTiling, rowProduct, withBroadcast } from "../../../src/webgpu/products/product-row.ts";
import type { RowTiling, SquareTiling } from "../../../src/webgpu/device/tilings.ts";
import { squareTiling, tiledProduct } from "../../../src/webgpu/products/product-tiled.ts";
import { uploadBiases } from "../../../src/webgpu/weights/weights-upload.ts";
import { LEAST } from "../attention/attention-scene.ts";
import { floats, gpuOrNull } from "../device.ts";
import { columnsOf, errorOf, KEY, type Case } from "./product-scene.ts";
import { storedMatrix } from "../weights/stored-weights.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());
/** On a busy machine that has compiled none of them yet. */
vi.setConfig({ testTimeout: 180_000 });

/**
 * Code grows with rows × tokens, and a processor compiles it for seconds: every type is read in each way by the least
 * kernel that does so, and larger ones (these, and those of hardware-tilings.test.ts) have a type of each scaling.
 */
const LEAST_ROWS: readonly RowTiling[] = [
  { teamSize: 1, teams: 8, rows: 1, tokens: 1, unit: "block" },
  { teamSize: 8, teams: 4, rows: 1, tokens: 1, unit: "quarter" },
];
const LEAST_TILE: SquareTiling = { side: 8, wide: 2, tall: 1 };
const ROW_PLANS: readonly (readonly [Activation, RowTiling])[] = [
  ["silu", { teamSize: 1, teams: 8, rows: 2, tokens: 2, unit: "block" }],
  ["gelu", { teamSize: 8, teams: 4, rows: 2, tokens: 1, unit: "quarter" }],
  ["gelu-tanh", { teamSize: 32, teams: 2, rows: 2, tokens: 1, unit: "block" }],
];

describe("the tiling of a product", () => {
  const hardware = { software: false };

  it("gives an invocation less to take where rows are short", () => {
    expect(rowTiling(KEY, { tokens: 1, rows: 576, blocks: 18 }, hardware)).toMatchObject({
      teamSize: 32,
      unit: "quarter",
    });
    const long = rowTiling({ ...KEY, type: "Q4_0" }, { tokens: 1, rows: 4096, blocks: 128 }, hardware);
    expect(long).toMatchObject({ teamSize: 32, unit: "block" });
  });

  it("keeps rows of gate and up in one invocation", () => {
    for (const software of [false, true])
      expect(rowTiling({ ...KEY, activation: "silu" }, { tokens: 1, rows: 64, blocks: 2 }, { software }).rows % 2).toBe(
        0,
      );
  });

  it("has no sum over invocations on a processor", () => {
    expect(rowTiling(KEY, { tokens: 1, rows: 64, blocks: 2 }, { software: true }).teamSize).toBe(1);
  });

  it("has high tiles only where there are enough of them", () => {
    expect(squareTiling({ tokens: 2048, rows: 1536 }, LEAST).tall).toBe(4);
    expect(squareTiling({ tokens: 16, rows: 576 }, LEAST).tall).toBe(1);
    expect(squareTiling({ tokens: 64, rows: 576 }, LEAST).tall).toBe(1);
  });
});

describe("products by broadcast", () => {
  const eights = { smallest: 8, largest: 8 };
  const tiling: RowTiling = { teamSize: 1, teams: 8, rows: 1, tokens: 1, unit: "block" };

  it("are for processors with subgroups of one size", () => {
    const of = (type: TensorType, tokens: number, software: boolean, subgroups: Capabilities["subgroups"]) =>
      broadcastTiling({ type }, { tokens }, { software, subgroups });
    expect(of("F32", 512, true, eights)).toEqual({ subgroupSize: 8, rows: 2, tokens: 2 });
    expect(of("F32", 512, true, { smallest: 4, largest: 4 })).toEqual({ subgroupSize: 4, rows: 2, tokens: 4 });
    expect(of("F32", 512, false, eights)).toBeNull();
    for (const subgroups of [null, { smallest: 4, largest: 8 }, { smallest: 32, largest: 32 }])
      expect(of("F32", 512, true, subgroups)).toBeNull();
  });

  it("have more rows where one load brings a block of them, and enough tokens to be worth compiling it", () => {
    const rows = (type: TensorType, tokens: number) =>
      broadcastTiling({ type }, { tokens }, { software: true, subgroups: eights })?.rows;
    expect([rows("Q4_0", 512), rows("Q4_0", 20), rows("Q6_K", 64), rows("Q8_0", 512), rows("F16", 512)]).toEqual([
      4, 2, 4, 2, 2,
    ]);
  });

  it("share what rows read of the input, one vector an invocation", () => {
    const capabilities = { software: true, subgroups: { smallest: 4, largest: 4 } } as Capabilities;
    expect(withBroadcast(tiling, capabilities)).toEqual({ ...tiling, teams: 4, broadcast: 4 });
    expect(withBroadcast(tiling, { ...capabilities, subgroups: null })).toBe(tiling);
    expect(withBroadcast(tiling, { ...capabilities, software: false })).toBe(tiling);
  });
});

const subgroupSize = gpu && equalSubgroups(gpu.capabilities);
if (gpu && !subgroupSize)
  process.stderr.write("Skipped: products by broadcast, for subgroups here are not of one small size.\n");

type Make = Parameters<typeof errorOf>[1];
type Work = readonly [Make, TensorType, shape: readonly [tokens: number, rows: number, columns: number], Case?];

const byRows =
  (tiling?: RowTiling): Make =>
  (product, capabilities) =>
    rowProduct(product, capabilities, tiling);
const byTiles =
  (tiling: SquareTiling): Make =>
  (product, capabilities) =>
    tiledProduct(product, capabilities, tiling);
const byBroadcast =
  (rows: number, tokens: number): Make =>
  (product, capabilities) =>
    broadcastProduct(product, capabilities, { subgroupSize: subgroupSize!, rows, tokens });

/** The largest error of all: kernels that are asked for together are compiled side by side. */
async function worst(...products: readonly Work[]): Promise<number> {
  return Math.max(...(await Promise.all(products.map((work) => errorOf(gpu!, ...work)))));
}

describe.skipIf(!gpu).each(TENSOR_TYPES)("a product with %s is the one in float64", (type) => {
  const columns = columnsOf(type);

  it("by rows and by tiles", async () => {
    const rows = LEAST_ROWS.map((tiling): Work => [byRows(tiling), type, [3, 37, columns]]);
    expect(await worst(...rows, [byTiles(LEAST_TILE), type, [13, 37, columns]])).toBeLessThan(2e-6);
  });

  it.skipIf(!subgroupSize)("by broadcast", async () => {
    const shared: RowTiling = {
      teamSize: 1,
      teams: subgroupSize!,
      rows: 1,
      tokens: 1,
      unit: "block",
      broadcast: subgroupSize!,
    };
    const rows: Work = [byRows(shared), type, [3, 37, columns]];
    expect(await worst(rows, [byBroadcast(1, 1), type, [11, 37, columns]])).toBeLessThan(2e-6);
  });
});

describe.skipIf(!subgroupSize)("a product by broadcast", () => {
  it("has several rows and tokens an invocation, a bias, a cap, and joins gate and up", async () => {
    const error = await worst(
      [byBroadcast(2, 2), "F32", [41, 70, 36], { bias: true, product: { cap: 0.5 } }],
      [byBroadcast(4, 16 / subgroupSize!), "Q4_1", [70, 74, 64], { bias: true, activation: "silu" }],
      [byBroadcast(4, 1), "Q8_0", [20, 64, 64], { product: { add: true } }],
    );
    expect(error).toBeLessThan(5e-6);
  });
});

describe.skipIf(!gpu)("a product by rows", () => {
  it("has an odd vocabulary and an odd hidden size", async () => {
    expect(await worst([byRows(), "F32", [1, 251, 36]], [byRows(), "F16", [2, 251, 36], { bias: true }])).toBeLessThan(
      2e-6,
    );
  });

  it.each(ROW_PLANS)("normalises its input, adds to its output and joins gate and up: %s, %o", async (of, tiling) => {
    const error = await worst(
      [byRows(tiling), "F32", [1, 64, 36], { norm: true }],
      [byRows(tiling), "Q6_K", [3, 40, 256], { norm: true, bias: true }],
      [byRows(tiling), "Q8_0", [1, 64, 64], { product: { add: true } }],
      [byRows(tiling), "Q4_0", [2, 74, 64], { norm: true, bias: true, activation: of }],
    );
    expect(error).toBeLessThan(5e-6);
  });

  it("caps logits, and takes a matrix in parts", async () => {
    const error = await worst(
      [byRows(), "BF16", [1, 251, 64], { product: { cap: 0.5 } }],
      [byRows(), "Q4_K", [1, 251, 256], { maxBinding: 128 * 40, bias: true }],
    );
    expect(error).toBeLessThan(3e-6);
  });

  it("has more than 65,535 workgroups", async () => {
    const tiling: RowTiling = { teamSize: 1, teams: 1, rows: 1, tokens: 1, unit: "quarter" };
    const make: Make = (product, capabilities) =>
      rowProduct(product, { ...capabilities, maxWorkgroupsPerDimension: 65535 }, tiling);
    expect(await worst([make, "F32", [1, 66_000, 4]])).toBeLessThan(2e-6);
  });
});

describe.skipIf(!gpu)("a product by tiles", () => {
  it("has several rows and tokens an invocation, a bias, adds to its output and joins gate and up", async () => {
    const error = await worst(
      [byTiles({ side: 8, wide: 4, tall: 2 }), "F32", [33, 251, 36], { bias: true }],
      [byTiles({ side: 8, wide: 2, tall: 4 }), "Q8_0", [41, 64, 64], { product: { add: true } }],
      [byTiles(LEAST_TILE), "Q4_1", [20, 74, 64], { bias: true, activation: "silu" }],
    );
    expect(error).toBeLessThan(5e-6);
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
