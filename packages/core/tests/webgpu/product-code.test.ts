import { describe, expect, it } from "vitest";
import { ACTIVATIONS, TENSOR_TYPES } from "@longctx/core";
import type { Kernel } from "../../src/webgpu/kernel.ts";
import { rowProductKernel, type RowPlan } from "../../src/webgpu/kernels/product-row.ts";
import { tiledProductKernel } from "../../src/webgpu/kernels/product-tiled.ts";
import { productKey, type GpuMatrix, type ProductKey } from "../../src/webgpu/kernels/product.ts";

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
const PLAN: RowPlan = { lanes: 32, teams: 4, rows: 2, tokens: 1, unit: "block" };

describe("the code of a product", () => {
  it("is the same exactly where the name is", () => {
    const kernels: Kernel[] = [
      ...KEYS.flatMap((key) => [rowProductKernel(key, PLAN), tiledProductKernel({ ...key, norm: false }, { tall: 2 })]),
      ...[1, 8].map((lanes) => rowProductKernel(KEYS[0], { ...PLAN, lanes })),
      ...[1, 3].map((teams) => rowProductKernel(KEYS[0], { ...PLAN, teams })),
      ...[1, 4].map((rows) => rowProductKernel(KEYS[0], { ...PLAN, rows })),
      rowProductKernel(KEYS[0], { ...PLAN, tokens: 2 }),
      rowProductKernel(KEYS[0], { ...PLAN, unit: "quarter" }),
      ...[1, 4].map((tall) => tiledProductKernel(KEYS[0], { tall })),
    ];
    const byName = new Map<string, string>();
    for (const { name, code } of kernels) {
      expect(byName.get(name) ?? code).toBe(code);
      byName.set(name, code);
    }
    expect(new Set(byName.values()).size).toBe(byName.size);
  });

  it("binds at most eight buffers, what every device has", () => {
    for (const key of KEYS) expect(rowProductKernel(key, PLAN).bindings.length).toBeLessThanOrEqual(8);
  });

  it("reads well", () => {
    const key = { ...KEYS[0], norm: true, add: true };
    expect(rowProductKernel({ ...key, type: "Q4_0" }, PLAN).code).toMatchSnapshot("rows of Q4_0");
    expect(tiledProductKernel({ ...KEYS[0], type: "F16" }, { tall: 1 }).code).toMatchSnapshot("tiles of F16");
  });

  it("needs widths that 4 divides", () => {
    const matrix = { type: "F32", first: 0, rows: 3, columns: 6, blocks: 1 } as GpuMatrix;
    const slice = { buffer: {} as GPUBuffer, offset: 0, size: 0 };
    expect(() => productKey({ matrix, tokens: 1, input: slice, output: slice, outputStride: 3 })).toThrow(
      /that 4 divides/,
    );
  });
});
