import * as fc from "fast-check";
import { afterAll, describe, expect, it, vi } from "vitest";
import { constantPosition } from "@longctx/core";
import { broadcastTilesKernel, broadcastQueryTiling } from "../../../src/webgpu/attention/attention-broadcast.ts";
import { equalSubgroups } from "../../../src/webgpu/device/kernel.ts";
import { tiledKernel, queryTiling } from "../../../src/webgpu/attention/attention-tiled.ts";
import { randomPlans } from "../../random-plans.ts";
import { causal, shapeOf, tableOf } from "./attention-plans.ts";
import { LEAST, chunksOf, difference, play } from "./attention-scene.ts";
import { gpuOrNull } from "../device.ts";
import { usualScenes } from "./usual-scenes.ts";
import { workgroupMemory } from "../workgroup-memory.ts";

/** Where keys pass: which device has it by default. */
const WAYS: [way: string, software: boolean][] = [
  ["workgroup memory", false],
  ["subgroups", true],
];

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());
vi.setConfig({ testTimeout: 300_000 });

describe("the tiling of queries", () => {
  it("fits the memory of a workgroup", () => {
    for (const headSize of [6, 8, 64, 80, 128, 256]) {
      const shape = shapeOf({ headSize });
      const tiling = queryTiling({ shape }, LEAST);
      expect(workgroupMemory(tiledKernel({ shape }, tiling).code)).toBeLessThanOrEqual(LEAST.maxWorkgroupMemory);
      expect(tiling.keys % 2).toBe(0);
    }
    expect(queryTiling({ shape: shapeOf({ headSize: 64 }) }, { ...LEAST, software: true })).toEqual({
      rows: 64,
      keys: 16,
    });
    expect(() => queryTiling({ shape: shapeOf({ headSize: 1024 }) }, LEAST)).toThrow(/1024 channels do not fit/);
  });

  it.each([
    [16, { rows: 64, keys: 32 }],
    [48, { rows: 64, keys: 16, teamSize: 2 }],
    [64, { rows: 64, keys: 12, teamSize: 2 }],
    [80, { rows: 64, keys: 8, teamSize: 4 }],
    [96, { rows: 64, keys: 8, teamSize: 4 }],
    [128, { rows: 64, keys: 6, teamSize: 4 }],
    [256, { rows: 32, keys: 4, teamSize: 8 }],
  ])("of hardware leaves room for several workgroups, and registers: heads of %i channels", (headSize, tiling) => {
    const shape = shapeOf({ headSize });
    const large = { ...LEAST, maxWorkgroupMemory: 49_152, maxInvocations: 1024 };
    expect(queryTiling({ shape }, large)).toEqual(tiling);
    expect(queryTiling({ shape }, LEAST)).toEqual(tiling);
    const { code } = tiledKernel({ shape }, tiling);
    expect(workgroupMemory(code)).toBeLessThanOrEqual(16_384);
    // Of the query and of its sum.
    expect([...code.matchAll(/(let query|var sum)\d+ =/g)].length).toBeLessThanOrEqual(16);
  });

  it("names kernels by all that changes their code", () => {
    const shapes = [shapeOf(), shapeOf({ headSize: 16 }), shapeOf({ storage: "f16" }), shapeOf({ headSize: 6 })];
    const names = shapes.map((shape) => tiledKernel({ shape }, queryTiling({ shape }, LEAST)).name);
    const shape = shapeOf({ headSize: 16 });
    for (const teamSize of [2, 4])
      for (const output of ["attended", "parts"] as const)
        names.push(tiledKernel({ shape }, { rows: 64, keys: 32, teamSize }, output).name);
    expect(new Set(names).size).toBe(8);
  });

  it("passes keys on by subgroups on processors that have them in one size", () => {
    const subgroups = { smallest: 8, largest: 8 };
    expect(broadcastQueryTiling({ software: true, subgroups })).toEqual({ subgroupSize: 8, queries: 2, keys: 2 });
    expect(broadcastQueryTiling({ software: true, subgroups: { smallest: 4, largest: 4 } })).toBeNull();
    expect(broadcastQueryTiling({ software: false, subgroups })).toBeNull();
    expect(broadcastQueryTiling({ software: true, subgroups: { smallest: 4, largest: 64 } })).toBeNull();
    const tiling = { subgroupSize: 8, queries: 1, keys: 1 };
    const names = [tiling, { ...tiling, subgroupSize: 4 }, { ...tiling, queries: 2 }, { ...tiling, keys: 2 }].map(
      (changed) => broadcastTilesKernel({ shape: shapeOf() }, changed).name,
    );
    expect(new Set(names).size).toBe(4);
  });

  it("keeps nothing of the size queries × keys", () => {
    const shape = shapeOf({ headSize: 64 });
    const { code } = tiledKernel({ shape }, queryTiling({ shape }, LEAST));
    const kept = [...code.matchAll(/var<storage, read_write> (\w+)/g)].map(([, name]) => name);
    expect(kept).toEqual(["attended"]);
  });
});

const subgroupSize = gpu && equalSubgroups(gpu.capabilities);
if (gpu && !subgroupSize)
  process.stderr.write("Skipped: tiles by broadcast, for subgroups here are not of one small size.\n");

describe.skipIf(!gpu).each(subgroupSize ? WAYS : WAYS.slice(0, 1))("on the device, by way of %s", (way, software) => {
  const table = tableOf(3);
  const { scene, expectAsDefined } = usualScenes(gpu!, { path: "tiled", capabilities: { software } });

  it.each([
    [6, 3, 4, 2, "f32"],
    [8, 4, 6, 2, "f32"],
    [20, 5, 5, 5, "f32"],
    [64, 32, 3, 1, "f16"],
  ] as const)(
    "heads of %i channels, %i pairs of them turned, %i query and %i key heads, %s",
    async (headSize, pairs, queryHeads, keyHeads, storage) => {
      const plan = () => ({ segments: [causal(tableOf(pairs))] });
      const shape = shapeOf({ headSize, pairs, queryHeads, keyHeads, storage });
      await expectAsDefined({ shape, plan, chunks: [1, 17, 33] }, storage === "f32" ? 3e-5 : 4e-3);
    },
  );

  it("chunks of more queries than a tile, and the same cut differently", async () => {
    const one = await expectAsDefined({ chunks: [101] });
    const many = await expectAsDefined({ chunks: chunksOf(101, 23) });
    expect(difference(one.attended, many.attended)).toBeLessThan(1e-5);
  });

  it("queries that see nothing give zeros and not nearly so", async () => {
    const plan = () => ({
      segments: [causal(table, { queries: { from: 5, to: 9 } }), causal(table, { queries: { from: 70, to: 80 } })],
    });
    const { attended } = await expectAsDefined({ plan, chunks: [90] });
    const rows = Array.from({ length: 90 }, (_, t) => attended.subarray(24 * t, 24 * (t + 1)));
    rows.forEach((row, t) =>
      expect(row.every((value) => value === 0)).toBe(!((t >= 5 && t < 9) || (t >= 70 && t < 80))),
    );
    const { attended: none } = await expectAsDefined({ plan: () => ({ segments: [] }), chunks: [70] });
    expect(none.every((value) => value === 0)).toBe(true);
  });

  it("scores with a soft cap, and tempered ones", async () => {
    const plan = () => ({
      segments: [causal(table)],
      temperature: { id: "t", at: (m: number) => 1 + (m % 5) / 4 },
    });
    const capped = await expectAsDefined({ plan, shape: shapeOf({ softCap: 0.2 }), chunks: [70, 3, 1] });
    const free = await expectAsDefined({ plan, chunks: [70, 3, 1] });
    expect(difference(capped.attended, free.attended)).toBeGreaterThan(0.05);
  });

  it("windows, far bands and lists in one softmax", async () => {
    const tokens = Int32Array.of(0, 1, 4, 30, 31, 64);
    const plan = () => ({
      segments: [
        causal(table, { band: { from: 0, to: 11 } }),
        causal(table, {
          band: { from: 11, to: Infinity },
          tokens,
          queryPosition: constantPosition(11),
          keyPosition: constantPosition(0),
        }),
      ],
      temperature: { id: "t", at: (m: number) => 1 + (m % 5) / 4 },
    });
    await expectAsDefined({ plan, chunks: [3, 70, 27] });
  });

  it("a layer's heads in several buffers, and more workgroups than one dimension takes", async () => {
    const shape = shapeOf({ queryHeads: 9, keyHeads: 3 });
    const { ring, dispatches } = await expectAsDefined({
      shape,
      capabilities: { maxBinding: 2 * 24 * 128 * 32, maxWorkgroupsPerDimension: 1 },
      chunks: [100, 28],
    });
    expect(ring.groups.map(({ firstHead, heads }) => [firstHead, heads])).toEqual([
      [0, 2],
      [2, 1],
    ]);
    expect(dispatches.some(({ workgroups }) => workgroups[1] > 1)).toBe(true);
  });

  it("bytes bound grow with queries and keys, not with their product", async () => {
    const bound = async (count: number) => {
      const shape = shapeOf();
      const { dispatches } = await play(
        gpu!,
        scene({ shape, layout: { capacity: count, pinned: count }, chunks: [count] }),
      );
      const last = dispatches[dispatches.length - 1];
      expect(last.kernel.name).toContain(way === "subgroups" ? "attention-broadcast" : "attention-tiled");
      return last.buffers.reduce((sum, { size }) => sum + size, 0);
    };
    expect(await bound(256)).toBeLessThan(4.2 * (await bound(64)));
  });

  it.each([
    [1, "f32"],
    [5, "f32"],
    [16, "f16"],
    [60, "f32"],
  ] as const)("random plans, chunks of %i, %s", async (size, storage) => {
    const shape = shapeOf({ queryHeads: 6, keyHeads: 2, storage });
    await fc.assert(
      fc.asyncProperty(randomPlans(3), fc.integer({ min: 1, max: 60 }), async (plan, count) => {
        await expectAsDefined({ shape, plan, chunks: chunksOf(count, size) }, storage === "f32" ? 5e-5 : 1e-2);
      }),
      { numRuns: 8 },
    );
  });

  it.each([1, 5, 12])("random plans over a ring, chunks of %i", async (size) => {
    const layout = { capacity: 24, pinned: 3 };
    await fc.assert(
      fc.asyncProperty(randomPlans(3, 10), async (plan) => {
        await expectAsDefined({ plan, layout, chunks: chunksOf(60, size) }, 5e-5);
      }),
      { numRuns: 4 },
    );
  });
});

/**
 * Few tiles are cut into ranges of keys; large heads have neighbouring invocations for each query. Tiles are small here,
 * for a processor compiles a kernel the longer the more keys there are at once; `hardware-plans.test.ts` has the others.
 */
describe.skipIf(!gpu)("on the device, as on hardware", () => {
  const { expectAsDefined } = usualScenes(gpu!, { path: "tiled", capabilities: { software: false } });
  const ranges = { wanted: 9, shortest: 8 };
  const small = (share: number) => ({ tiles: { path: "tiles", rows: 16, keys: 2, ...(share > 1 ? { teamSize: share } : {}) } }) as const; // prettier-ignore

  it.each([
    [64, 2, "f32"],
    [72, 4, "f32"], // four share 18 vectors
    [80, 4, "f16"],
    [96, 4, "f32"],
    [128, 4, "f32"],
    [256, 8, "f16"],
  ] as const)(
    "neighbours share queries: heads of %i channels, %i invocations, %s",
    async (headSize, share, storage) => {
      const shape = shapeOf({ headSize, pairs: headSize / 2, queryHeads: 2, storage });
      expect(queryTiling({ shape }, LEAST).teamSize).toBe(share);
      const plan = () => ({ segments: [causal(tableOf(headSize / 2))] });
      const scene = { shape, plan, tilings: small(share), chunks: [1, 17, 40] };
      await expectAsDefined(headSize === 72 ? { ...scene, ranges } : scene, storage === "f32" ? 3e-5 : 4e-3);
    },
  );

  it.each([
    [8, 1],
    [16, 2],
  ])("ranges of keys are put together: heads of %i channels, %i invocations a query", async (headSize, share) => {
    const scene = { shape: shapeOf({ headSize }), tilings: small(share), ranges };
    const tokens = Int32Array.of(0, 1, 4, 30, 31, 64);
    const table = tableOf(3);
    const far = { band: { from: 11, to: Infinity }, queryPosition: constantPosition(11), keyPosition: constantPosition(0) }; // prettier-ignore
    const plan = () => ({
      segments: [causal(table, { band: { from: 0, to: 11 } }), causal(table, { ...far, tokens })],
      temperature: { id: "t", at: (m: number) => 1 + (m % 5) / 4 },
    });
    await expectAsDefined({ ...scene, plan, chunks: [3, 70, 27] });
    const { dispatches } = await expectAsDefined({ ...scene, chunks: [3, 70, 27] });
    const kinds = dispatches.slice(-2).map(({ kernel }) => kernel.name.split(" ")[0]);
    expect(kinds).toEqual(["attention-tiled", "attention-reduce"]);
    // Queries that see nothing in a range, or at all, have no part in it.
    const some = () => ({
      segments: [causal(table, { queries: { from: 5, to: 9 } }), causal(table, { queries: { from: 70, to: 80 } })],
    });
    const { attended } = await expectAsDefined({ ...scene, plan: some, chunks: [90] });
    const size = 3 * headSize;
    for (let t = 0; t < 90; t++) {
      const sees = (t >= 5 && t < 9) || (t >= 70 && t < 80);
      expect(attended.subarray(size * t, size * (t + 1)).every((value) => value === 0)).toBe(!sees);
    }
  });

  it("random plans in ranges, heads in several buffers", async () => {
    const shape = shapeOf({ queryHeads: 6, keyHeads: 3 });
    const capabilities = { software: false, maxBinding: 2 * 24 * 128 * 32, maxWorkgroupsPerDimension: 2 };
    const scene = { shape, capabilities, tilings: small(1), ranges };
    await fc.assert(
      fc.asyncProperty(randomPlans(3), fc.integer({ min: 1, max: 60 }), async (plan, count) => {
        await expectAsDefined({ ...scene, plan, chunks: chunksOf(count, 23) }, 5e-5);
      }),
      { numRuns: 8 },
    );
  });
});
