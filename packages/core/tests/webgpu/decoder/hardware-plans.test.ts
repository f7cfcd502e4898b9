import { afterAll, describe, expect, it, vi } from "vitest";
import type { TensorType } from "@longctx/core";
import type { Capabilities } from "../../../src/webgpu/device/kernel.ts";
import type { AttentionShape } from "../../../src/webgpu/attention/attention-shape.ts";
import { attentionReduce, reduceKernel } from "../../../src/webgpu/attention/attention-reduce.ts";
import { attentionSplit, splitKernel, splitTiling } from "../../../src/webgpu/attention/attention-split.ts";
import { tiledKernel, queryTiling } from "../../../src/webgpu/attention/attention-tiled.ts";
import { rowTiling, rowProduct } from "../../../src/webgpu/products/product-row.ts";
import type { RowTiling } from "../../../src/webgpu/device/tilings.ts";
import { tileMemory } from "../../../src/webgpu/products/product-tile.ts";
import { squareTiling, tiledProduct } from "../../../src/webgpu/products/product-tiled.ts";
import { causal, shapeOf, tableOf } from "../attention/attention-plans.ts";
import { difference, LEAST, play } from "../attention/attention-scene.ts";
import { gpuOrNull } from "../device.ts";
import { columnsOf, errorOf, KEY, type Case } from "../products/product-scene.ts";
import { workgroupMemory } from "../workgroup-memory.ts";

/**
 * Every tiling that hardware GPUs get for models of usual sizes, once each, on small shapes: a processor gets others, so
 * its adapter would never see them. Limits are those that Dawn reports of such devices.
 */
const HARDWARE: Readonly<Record<string, Capabilities>> = {
  "WebGPU's defaults": LEAST,
  "an Apple M2": {
    ...LEAST,
    f16: true,
    subgroups: { smallest: 4, largest: 64 },
    maxInvocations: 1024,
    maxWorkgroupMemory: 32_768,
    maxBinding: 2 ** 32 - 4,
    maxBuffer: 2 ** 32,
  },
  "an NVIDIA RTX 4090": {
    ...LEAST,
    f16: true,
    subgroups: { smallest: 32, largest: 32 },
    maxInvocations: 1024,
    maxWorkgroupMemory: 49_152,
    maxBinding: 2 ** 32 - 4,
    maxBuffer: 2 ** 32,
  },
};

interface Sizes {
  readonly hidden: number;
  readonly inner: number;
  readonly vocabulary: number;
  readonly heads: Pick<AttentionShape, "queryHeads" | "keyHeads" | "headSize">;
}

const MODELS: readonly Sizes[] = [
  { hidden: 64, inner: 128, vocabulary: 512, heads: { queryHeads: 4, keyHeads: 2, headSize: 16 } }, // tiny ones
  { hidden: 288, inner: 768, vocabulary: 32_000, heads: { queryHeads: 6, keyHeads: 6, headSize: 48 } }, // stories15M
  { hidden: 576, inner: 1536, vocabulary: 49_152, heads: { queryHeads: 9, keyHeads: 3, headSize: 64 } }, // SmolLM2-135M
  { hidden: 2048, inner: 8192, vocabulary: 128_256, heads: { queryHeads: 32, keyHeads: 8, headSize: 64 } }, // Llama 3.2 1B
  { hidden: 2304, inner: 9216, vocabulary: 256_000, heads: { queryHeads: 8, keyHeads: 4, headSize: 256 } }, // Gemma 2 2B
  { hidden: 3584, inner: 18_944, vocabulary: 152_064, heads: { queryHeads: 28, keyHeads: 4, headSize: 128 } }, // Qwen2.5 7B
  { hidden: 4096, inner: 14_336, vocabulary: 128_256, heads: { queryHeads: 32, keyHeads: 8, headSize: 128 } }, // Llama 3 8B
];
const TYPES = ["F32", "F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"] as const satisfies readonly TensorType[];

/** The products of a layer and the head: whether gate and up are joined, rows, columns. */
const productsOf = ({ hidden, inner, vocabulary, heads }: Sizes) =>
  [
    [false, (heads.queryHeads + 2 * heads.keyHeads) * heads.headSize, hidden],
    [false, hidden, heads.queryHeads * heads.headSize],
    [true, 2 * inner, hidden],
    [false, hidden, inner],
    [false, vocabulary, hidden],
  ] as const;

function distinct<Tiling>(tilings: readonly Tiling[]): Tiling[] {
  return [...new Map(tilings.map((tiling) => [JSON.stringify(tiling), tiling])).values()];
}

const ROW_TILINGS: readonly RowTiling[] = distinct(
  MODELS.flatMap(productsOf).flatMap(([joined, rows, columns]) =>
    TYPES.flatMap((type) =>
      [1, 2, 4, 8].map((tokens) => {
        const key = { ...KEY, type, activation: joined ? ("silu" as const) : null };
        return rowTiling(key, { tokens, rows, blocks: Math.ceil(columns / 32) }, { software: false });
      }),
    ),
  ),
);
/** Of floats, which every device has, and of halves, for fast models where there are any. */
const SQUARE_TILINGS = distinct(
  [false, true].flatMap((f16) =>
    MODELS.flatMap(productsOf).flatMap(([, rows]) =>
      [16, 64, 512].map((tokens) => squareTiling({ tokens, rows, precision: "fast" }, { f16, software: false })),
    ),
  ),
);
/** Of attention the sizes of workgroups: they run with small heads, for code grows with heads. */
const SHAPES = MODELS.map(({ heads }) => shapeOf({ ...heads, pairs: heads.headSize / 2 }));

const ATTENTION = Object.values(HARDWARE).flatMap((capabilities) =>
  SHAPES.map((shape) => ({ tiles: queryTiling({ shape }, capabilities), split: splitTiling({ shape }, capabilities) })),
);

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());
vi.setConfig({ testTimeout: 300_000 });

describe("the tilings of hardware", () => {
  it("are those that are known here", () => {
    const shown = distinct(ROW_TILINGS.map(({ teamSize, teams, rows, unit }) => ({ teamSize, teams, rows, unit })));
    expect(shown.map((tiling) => Object.values(tiling).join(" ")).sort()).toEqual([
      "16 8 1 quarter",
      "16 8 2 quarter",
      "32 4 1 block",
      "32 4 1 quarter",
      "32 4 2 block",
      "32 4 2 quarter",
      "8 16 1 quarter",
      "8 16 2 quarter",
    ]);
    expect(new Set(ROW_TILINGS.map(({ tokens }) => tokens))).toEqual(new Set([1, 2, 4]));
    const tiles = SQUARE_TILINGS.map(({ tall, half }) => `${tall} ${half ? "halves" : "floats"}`);
    expect(tiles.sort()).toEqual(["1 floats", "1 halves", "2 floats", "2 halves", "4 floats", "4 halves"]);
  });

  it.each(Object.entries(HARDWARE))("fit what a device has: %s", (_, capabilities) => {
    const { maxInvocations, maxWorkgroupMemory } = capabilities;
    for (const tiling of ROW_TILINGS) {
      const sums = tiling.rows * tiling.tokens + tiling.tokens;
      expect(tiling.teamSize * tiling.teams).toBeLessThanOrEqual(maxInvocations);
      expect(4 * sums * tiling.teamSize * tiling.teams).toBeLessThanOrEqual(maxWorkgroupMemory);
    }
    for (const tiling of SQUARE_TILINGS) {
      expect(tiling.side ** 2).toBeLessThanOrEqual(maxInvocations);
      expect(tileMemory(tiling)).toBeLessThanOrEqual(maxWorkgroupMemory);
    }
    for (const shape of SHAPES) {
      const [tiles, split] = [queryTiling({ shape }, capabilities), splitTiling({ shape }, capabilities)];
      for (const { code } of [tiledKernel({ shape }, tiles), splitKernel({ shape }, split), reduceKernel(split)])
        expect(workgroupMemory(code)).toBeLessThanOrEqual(maxWorkgroupMemory);
      expect(Math.max(tiles.rows, split.threads)).toBeLessThanOrEqual(maxInvocations);
    }
  });
});

describe.skipIf(!gpu)("on the device", () => {
  // A processor compiles each of the 24 for seconds: there every team has one of the three numbers of tokens, by turns.
  const turns = gpu?.capabilities.software ? 3 : 1;
  const teams = distinct(ROW_TILINGS.map(({ teamSize, rows, unit }) => ({ teamSize, rows, unit }))).map(
    (team, turn) => ({
      ...team,
      turn,
    }),
  );

  it.each(teams)(
    "a product by rows: teams of $teamSize, $rows rows, by $unit",
    async ({ teamSize, rows, unit, turn }) => {
      const tilings = ROW_TILINGS.filter(
        (tiling) => tiling.teamSize === teamSize && tiling.rows === rows && tiling.unit === unit,
      );
      // Kernels compile side by side, in seconds each on a processor, so every tiling has one of the things that products do:
      // a sum in place behind a norm, gate and up joined, a bias.
      const own = tilings.filter((_, i) => i % turns === turn % turns);
      const errors = own.map(async (tiling) => {
        const joined: Case = rows === 2 && tiling.tokens === 4 ? { activation: "silu" } : {};
        const work = tiling.tokens === 1 ? { norm: true, product: { add: true } } : { bias: true, ...joined };
        // Tokens and rows that the tiling does not divide, columns that give every invocation some.
        const shape = [2 * tiling.tokens - 1, 38, unit === "block" ? 32 * 67 : 4 * 67] as const;
        return errorOf(
          gpu!,
          (product, on) => rowProduct(product, on, tiling),
          unit === "block" ? "F16" : "F32",
          shape,
          work,
        );
      });
      expect(tilings.length).toBe(3);
      for (const error of await Promise.all(errors)) expect(error).toBeLessThan(5e-6);
    },
  );

  const here = SQUARE_TILINGS.filter(({ half }) => !half || gpu?.capabilities.f16);
  it.each(here)("a product by tiles: $tall tokens an invocation, of halves: $half", async (tiling) => {
    const type = tiling.tall === 2 ? "Q4_K" : "Q4_0";
    const shape = [41, 70, columnsOf(type)] as const;
    const error = await errorOf(gpu!, (product, on) => tiledProduct(product, on, tiling), type, shape);
    expect(error).toBeLessThan(tiling.half ? 2e-3 : 2e-6);
  });

  const scene = { plan: () => ({ segments: [causal(tableOf(8))] }), layout: { capacity: 128, pinned: 128 } };
  const capabilities = { ...gpu?.capabilities, software: false };

  it.each(distinct(ATTENTION.map(({ tiles }) => tiles)))(
    "attention in tiles: $rows queries, $keys keys, $teamSize invocations a query",
    async (tiles) => {
      const shape = shapeOf({ queryHeads: 2, keyHeads: 1, headSize: 8 * Math.max(2, tiles.teamSize ?? 1), pairs: 8 });
      const tilings = { tiles: { path: "tiles", ...tiles } } as const;
      const played = { ...scene, shape, capabilities, tilings, chunks: [70], path: "tiled" } as const;
      const { attended, expected } = await play(gpu!, played);
      expect(difference(attended, expected)).toBeLessThan(3e-5);
    },
  );

  it.each(distinct(ATTENTION.map(({ split }) => split)))(
    "attention split: $heads heads, pieces of $longest keys, the maximum by $maximum",
    async (split) => {
      const shape = shapeOf({ queryHeads: split.heads, keyHeads: 1, headSize: 16, pairs: 8 });
      const maximum = gpu!.capabilities.subgroups ? split.maximum : "eights";
      const kernels = [splitKernel({ shape }, { ...split, maximum }), reduceKernel({ ...split, maximum })] as const;
      const { attended, expected } = await play(gpu!, {
        ...scene, shape, capabilities, chunks: [39, 1], path: "split",
        attend: (work) => [
          ...attentionSplit(kernels[0], shape, split, gpu!.capabilities, work),
          attentionReduce(kernels[1], shape, gpu!.capabilities, work),
        ],
      }); // prettier-ignore
      expect(difference(attended, expected)).toBeLessThan(3e-5);
    },
  );
});
