import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { splitKernel, splitTiling } from "../../../src/webgpu/attention/attention-split.ts";
import { randomPlans } from "../../random-plans.ts";
import { causal, shapeOf, tableOf } from "./attention-plans.ts";
import { LEAST, chunksOf, difference, play } from "./attention-scene.ts";
import { gpuOrNull } from "../device.ts";
import { usualScenes } from "./usual-scenes.ts";
import { workgroupMemory } from "../workgroup-memory.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

describe("the tiling of split attention", () => {
  it("takes as many query heads at once as share a key head, up to eight", () => {
    const heads = (queryHeads: number, keyHeads: number, headSize = 64) =>
      splitTiling({ shape: shapeOf({ queryHeads, keyHeads, headSize }) }, LEAST).heads;
    expect([heads(9, 3), heads(7, 1), heads(32, 2), heads(12, 1), heads(11, 1), heads(4, 4)]).toEqual([
      3, 7, 4, 6, 1, 1,
    ]);
  });

  it("fits the memory of a workgroup", () => {
    for (const headSize of [8, 64, 80, 128, 256])
      for (const queryHeads of [1, 3, 8]) {
        const tiling = splitTiling({ shape: shapeOf({ headSize, queryHeads }) }, LEAST);
        const { code } = splitKernel({ shape: shapeOf({ headSize, queryHeads }) }, tiling);
        expect(workgroupMemory(code)).toBeLessThanOrEqual(LEAST.maxWorkgroupMemory);
        expect(code).not.toContain("enable subgroups");
      }
    expect(() => splitTiling({ shape: shapeOf({ headSize: 4096 }) }, LEAST)).toThrow(/4096 channels do not fit/);
  });

  it("uses subgroups where there are some, whatever their size", () => {
    const shape = shapeOf();
    const kernels = [4, 32, 128].map((size) => {
      const tiling = splitTiling({ shape }, { ...LEAST, subgroups: { smallest: size, largest: size } });
      return splitKernel({ shape }, tiling);
    });
    expect(new Set(kernels.map(({ code }) => code)).size).toBe(1);
    expect(kernels[0].features).toEqual(["subgroups"]);
  });
});

describe.skipIf(!gpu)("on the device", () => {
  const table = tableOf(3);
  const { scene, expectAsDefined } = usualScenes(gpu!, { path: "split" });

  it.each([
    [6, 3, 4, 2, "f32"],
    [16, 8, 12, 1, "f32"],
    [64, 32, 9, 3, "f16"],
    [80, 20, 5, 5, "f32"],
  ] as const)(
    "heads of %i channels, %i pairs of them turned, %i query and %i key heads, %s",
    async (headSize, pairs, queryHeads, keyHeads, storage) => {
      const plan = () => ({ segments: [causal(tableOf(pairs))] });
      const shape = shapeOf({ headSize, pairs, queryHeads, keyHeads, storage });
      await expectAsDefined({ shape, plan, chunks: [50, 1, 1, 3] }, storage === "f32" ? 3e-5 : 4e-3);
    },
  );

  it("with subgroups and without, with little memory", async () => {
    for (const capabilities of [{ subgroups: null }, { maxWorkgroupMemory: 3000 }])
      await expectAsDefined({ capabilities, chunks: [100, 1] });
  });

  it("gives what tiles give", async () => {
    const split = await expectAsDefined({ chunks: [60, 1] });
    const tiled = await expectAsDefined({ chunks: [60, 1], path: "tiled" });
    const chosen = await expectAsDefined({ chunks: [60, 1], path: "chosen" });
    expect(difference(split.attended, tiled.attended)).toBeLessThan(1e-5);
    expect(chosen.dispatches.map(({ kernel }) => kernel.name.split(" ")[0])).toEqual([
      "rotate-and-store",
      expect.stringMatching(/^attention-(tiled|broadcast)$/),
      "rotate-and-store",
      "attention-split",
      "attention-reduce",
    ]);
  });

  it("scores with a soft cap", async () => {
    const capped = await expectAsDefined({ shape: shapeOf({ softCap: 0.2 }), chunks: [60, 1, 1] });
    const free = await expectAsDefined({ chunks: [60, 1, 1] });
    expect(difference(capped.attended, free.attended)).toBeGreaterThan(0.05);
  });

  it("a window is kept token by token, and costs what it shows", async () => {
    const plan = () => ({ segments: [causal(table, { band: { from: 0, to: 4 } })] });
    const { dispatches } = await expectAsDefined({ plan, chunks: [90, ...chunksOf(10, 1)] });
    const split = dispatches.filter(({ kernel }) => kernel.name.startsWith("attention-split"));
    expect(split[split.length - 1].workgroups).toEqual([1, 1, 1]);
  });

  it("a cache filled to its last slot", async () => {
    await expectAsDefined({ layout: { capacity: 37, pinned: 37 }, chunks: [30, 6, 1] });
    await expect(play(gpu!, scene({ layout: { capacity: 37, pinned: 37 }, chunks: [37, 1] }))).rejects.toThrow(
      /cache holds 37/,
    );
  });

  it("queries that see nothing give zeros", async () => {
    const plan = () => ({ segments: [causal(table, { queries: { from: 3, to: 5 } })] });
    const { attended } = await expectAsDefined({ plan, chunks: [1, 1, 1, 1, 1, 1, 4] });
    const blind = [0, 1, 2, 5, 6, 7, 8, 9].map((t) => attended.subarray(24 * t, 24 * (t + 1)));
    expect(blind.every((row) => row.every((value) => value === 0))).toBe(true);
  });

  it("a layer's heads in several buffers, and more workgroups than one dimension takes", async () => {
    const shape = shapeOf({ queryHeads: 12, keyHeads: 4 });
    const capabilities = { maxBinding: 3 * 24 * 128 * 32, maxWorkgroupsPerDimension: 5 };
    const { ring, dispatches } = await expectAsDefined({ shape, capabilities, chunks: [90, 3] });
    expect(ring.groups.map(({ heads }) => heads)).toEqual([3, 1]);
    expect(dispatches.some(({ workgroups }) => workgroups[1] > 1)).toBe(true);
    expect(dispatches.every(({ workgroups }) => workgroups[0] <= 5)).toBe(true);
  });

  it.each(["f32", "f16"] as const)("random plans, %s", async (storage) => {
    const shape = shapeOf({ queryHeads: 6, keyHeads: 2, storage });
    await fc.assert(
      fc.asyncProperty(
        randomPlans(3),
        fc.integer({ min: 1, max: 60 }),
        fc.constantFrom(1, 7, 40),
        async (plan, count, size) => {
          await expectAsDefined({ shape, plan, chunks: chunksOf(count, size) }, storage === "f32" ? 5e-5 : 1e-2);
        },
      ),
      { numRuns: 12 },
    );
  });

  it("random plans over a ring", async () => {
    const layout = { capacity: 24, pinned: 3 };
    await fc.assert(
      fc.asyncProperty(randomPlans(3, 10), fc.constantFrom(1, 5, 12), async (plan, size) => {
        await expectAsDefined({ plan, layout, chunks: chunksOf(60, size) }, 5e-5);
      }),
      { numRuns: 8 },
    );
  });
});
