import { describe, expect, it } from "vitest";
import { ACTIVATIONS, TENSOR_TYPES } from "@longctx/core";
import type { Kernel } from "../../../src/webgpu/device/kernel.ts";
import { broadcastProductKernel } from "../../../src/webgpu/products/product-broadcast.ts";
import { rowProductKernel } from "../../../src/webgpu/products/product-row.ts";
import type { RowTiling, SquareTiling } from "../../../src/webgpu/device/tilings.ts";
import { tiledProductKernel } from "../../../src/webgpu/products/product-tiled.ts";
import { productKey, type ProductKey } from "../../../src/webgpu/products/product.ts";
import type { GpuMatrix } from "../../../src/webgpu/weights/weights-packed.ts";

const flags = [false, true];
const KEYS: readonly ProductKey[] = TENSOR_TYPES.flatMap((type) =>
  [null, ...ACTIVATIONS].flatMap((activation) =>
    flags.flatMap((norm) =>
      flags.flatMap((bias) =>
        flags.flatMap((add) =>
          flags.flatMap((cap) => flags.map((ragged) => ({ type, norm, bias, add, activation, cap, ragged }))),
        ),
      ),
    ),
  ),
);
const TILING: RowTiling = { teamSize: 32, teams: 4, rows: 2, tokens: 1, unit: "block" };
const TILES: SquareTiling = { side: 16, wide: 4, tall: 2 };

describe("the code of a product", () => {
  it("is the same exactly where the name is", () => {
    const kernels: Kernel[] = [
      ...KEYS.flatMap((key) => [rowProductKernel(key, TILING), tiledProductKernel({ ...key, norm: false }, TILES)]),
      ...[1, 8].map((teamSize) => rowProductKernel(KEYS[0], { ...TILING, teamSize })),
      ...[1, 3].map((teams) => rowProductKernel(KEYS[0], { ...TILING, teams })),
      ...[1, 4].map((rows) => rowProductKernel(KEYS[0], { ...TILING, rows })),
      rowProductKernel(KEYS[0], { ...TILING, tokens: 2 }),
      rowProductKernel(KEYS[0], { ...TILING, unit: "quarter" }),
      ...[1, 4].map((tall) => tiledProductKernel(KEYS[0], { ...TILES, tall })),
      tiledProductKernel(KEYS[0], { ...TILES, side: 8 }),
      tiledProductKernel(KEYS[0], { ...TILES, wide: 8 }),
      tiledProductKernel(KEYS[0], { ...TILES, half: true }),
      tiledProductKernel(KEYS[0], { ...TILES, half: true, tall: 4 }),
      rowProductKernel(KEYS[0], { ...TILING, teamSize: 1, teams: 8, broadcast: 8 }),
      rowProductKernel(KEYS[0], { ...TILING, teamSize: 1, teams: 4, broadcast: 4 }),
      ...[4, 8].map((subgroupSize) => broadcastProductKernel(KEYS[0], { subgroupSize, rows: 1, tokens: 1 })),
      ...[2, 4].map((rows) => broadcastProductKernel(KEYS[0], { subgroupSize: 8, rows, tokens: 1 })),
      broadcastProductKernel(KEYS[0], { subgroupSize: 8, rows: 1, tokens: 2 }),
    ];
    const byName = new Map<string, string>();
    for (const { name, code } of kernels) {
      expect(byName.get(name) ?? code).toBe(code);
      byName.set(name, code);
    }
    expect(new Set(byName.values()).size).toBe(byName.size);
  });

  it("enables halves where the tiles are of halves", () => {
    const tiles = (tiling: SquareTiling) => tiledProductKernel(KEYS[0], tiling);
    expect(tiles({ ...TILES, half: true })).toMatchObject({
      features: ["shader-f16"],
      code: expect.stringMatching(/^enable f16;/) as string,
    });
    expect(tiles(TILES).features).toEqual([]);
    expect(tiles(TILES).code).not.toContain("f16");
  });

  it("binds at most eight buffers, what every device has", () => {
    for (const key of KEYS) expect(rowProductKernel(key, TILING).bindings.length).toBeLessThanOrEqual(8);
  });

  it("reads well", () => {
    const key = { ...KEYS[0], norm: true, add: true };
    expect(rowProductKernel({ ...key, type: "Q4_0" }, TILING).code).toMatchSnapshot("rows of Q4_0");
    const broadcast = { subgroupSize: 4, rows: 1, tokens: 1 };
    expect(broadcastProductKernel({ ...KEYS[0], type: "Q8_0" }, broadcast).code).toMatchSnapshot("broadcast of Q8_0");
    expect(tiledProductKernel({ ...KEYS[0], type: "F16" }, { ...TILES, tall: 1 }).code).toMatchSnapshot("tiles of F16");
    const halves: SquareTiling = { side: 8, wide: 2, tall: 2, half: true };
    expect(tiledProductKernel({ ...KEYS[0], type: "Q4_1" }, halves).code).toMatchSnapshot("tiles of Q4_1 in halves");
  });

  it("needs widths that 4 divides", () => {
    const matrix = { type: "F32", first: 0, rows: 3, columns: 6, blocks: 1 } as GpuMatrix;
    const slice = { buffer: {} as GPUBuffer, offset: 0, size: 0 };
    expect(() => productKey({ matrix, tokens: 1, input: slice, output: slice, outputStride: 3 })).toThrow(
      /that 4 divides/,
    );
  });
});
