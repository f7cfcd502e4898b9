import { afterAll, describe, expect, it } from "vitest";
import { uniformFloat64 } from "../../../src/common/random.ts";
import { maximumOf, type Maximum } from "../../../src/webgpu/attention/attention-maximum.ts";
import { attentionReduce, reduceKernel } from "../../../src/webgpu/attention/attention-reduce.ts";
import { quadsOf } from "../../../src/webgpu/attention/attention-shape.ts";
import { attentionSplit, splitKernel, splitTiling } from "../../../src/webgpu/attention/attention-split.ts";
import type { AttentionTables } from "../../../src/webgpu/attention/lane-table.ts";
import { causal, shapeOf, tableOf } from "./attention-plans.ts";
import { LEAST, difference, floatsOf, play } from "./attention-scene.ts";
import { reduceOracle, type Part } from "../../oracles/attention-reduce.ts";
import { gpuOrNull } from "../device.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

describe.skipIf(!gpu)("parts of one softmax", () => {
  const sizes: Maximum[] = ["eights", 4, 8, 16, 32, 64, 128];
  if (gpu?.capabilities.subgroups) sizes.push("subgroups");

  it.each(sizes)("are put together in the same way: %s", async (maximum) => {
    const cases: [number, number[]][] = [
      [8, [1, 0, 200]],
      [80, [3, 65]],
    ];
    for (const [headSize, counts] of cases) {
      const shape = shapeOf({ headSize, queryHeads: 3 });
      const { parts, numbers } = randomParts(shape.queryHeads, quadsOf(shape), counts);
      const ends = counts.map((_, t) => counts.slice(0, t + 1).reduce((sum, count) => sum + count, 0));
      const ranges = Uint32Array.from(counts.flatMap((count, t) => [ends[t] - count, ends[t]]));
      const kernel = reduceKernel({ threads: 64, maximum });
      const attended = gpu!.upload(new Float32Array(counts.length * 3 * headSize).fill(NaN), "test");
      const tables = { count: counts.length, sections: { ranges: { offset: 0, size: ranges.byteLength } } };
      const dispatch = attentionReduce(kernel, shape, gpu!.capabilities, {
        tables: tables as unknown as AttentionTables,
        uploaded: gpu!.upload(ranges, "test"),
        parts: gpu!.upload(numbers, "test"),
        attended,
      });
      await gpu!.run([dispatch]);
      const expected = counts.flatMap((count, t) =>
        [0, 1, 2].flatMap((head) =>
          Array.from(
            count === 0
              ? new Float64Array(headSize)
              : reduceOracle(
                  parts.slice(ends[t] - count, ends[t]).map((row) => row[head]),
                  headSize,
                ),
          ),
        ),
      );
      expect(difference(floatsOf(await gpu!.read(attended)), expected)).toBeLessThan(1e-5);
    }
  });

  it("split and reduced give the same bits whatever the size of subgroups", async () => {
    const shape = shapeOf({ queryHeads: 2, keyHeads: 2 });
    const results: Float32Array[] = [];
    // Each compiles two kernels: some of the sizes, the smallest and the largest among them.
    for (const maximum of sizes.filter((size) => size !== 8 && size !== 16 && size !== 64)) {
      const tiling = { ...splitTiling({ shape }, { ...LEAST }), maximum };
      const [split, reduce] = [splitKernel({ shape }, tiling), reduceKernel(tiling)];
      const { attended, expected } = await play(gpu!, {
        shape,
        plan: () => ({ segments: [causal(tableOf(3))] }),
        layout: { capacity: 100, pinned: 100 },
        chunks: [99, 1],
        path: "split",
        attend: (work) => [
          ...attentionSplit(split, shape, tiling, gpu!.capabilities, work),
          attentionReduce(reduce, shape, gpu!.capabilities, work),
        ],
      });
      expect(difference(attended, expected)).toBeLessThan(3e-5);
      results.push(attended);
    }
    for (const other of results) expect(other).toEqual(results[0]);
  });
});

it("a device without subgroups counts eight by eight", () => {
  expect(maximumOf({ subgroups: null })).toBe("eights");
  expect(maximumOf({ subgroups: { smallest: 4, largest: 128 } })).toBe("subgroups");
  const { code, features } = reduceKernel({ threads: 64, maximum: "eights" });
  expect(features).toEqual([]);
  expect(code).not.toMatch(/subgroup/);
});

/** Parts [pieces][heads], and as the kernel reads them; scores lie hundreds of powers apart. */
function randomParts(
  heads: number,
  quads: number,
  counts: readonly number[],
): { parts: Part[][]; numbers: Float32Array } {
  const random = uniformFloat64(3);
  const pieces = counts.reduce((sum, count) => sum + count, 0);
  const numbers = new Float32Array(Math.max(1, pieces) * heads * (quads + 1) * 4);
  const parts = Array.from({ length: pieces }, (_piece, p) =>
    Array.from({ length: heads }, (_, h) => {
      const at = (p * heads + h) * (quads + 1) * 4;
      for (let i = 0; i < 4 * quads; i++) numbers[at + i] = 2 * random() - 1;
      numbers[at + 4 * quads] = 400 * random() - 200;
      numbers[at + 4 * quads + 1] = 1 + random();
      return {
        largest: numbers[at + 4 * quads],
        total: numbers[at + 4 * quads + 1],
        sum: numbers.subarray(at, at + 4 * quads),
      };
    }),
  );
  return { parts, numbers };
}
