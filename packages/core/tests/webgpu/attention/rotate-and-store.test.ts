import { afterAll, describe, expect, it } from "vitest";
import { SlotMap, makeTable, type AttentionPlan } from "@longctx/core";
import { uniformFloat64 } from "../../../src/common/random.ts";
import { rotation } from "../../../src/positions/rotation.ts";
import { attentionTables } from "../../../src/webgpu/attention/lane-table.ts";
import { AttentionKernels } from "../../../src/webgpu/attention/attention.ts";
import { ringShape, queryBytes, quadsOf, type AttentionShape } from "../../../src/webgpu/attention/attention-shape.ts";
import { rotateAndStoreKernel } from "../../../src/webgpu/attention/rotate-and-store.ts";
import { rotatedOracle } from "../../oracles/rotation.ts";
import { causal, shapeOf, tableOf } from "./attention-plans.ts";
import { LEAST, difference, floatsOf, play } from "./attention-scene.ts";
import { gpuOrNull } from "../device.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

it("binds no more buffers than every device takes", () => {
  for (const normEpsilon of [null, 1e-6])
    expect(rotateAndStoreKernel({ storage: "f32", normEpsilon }).bindings.length).toBeLessThanOrEqual(8);
  expect(
    new Set([null, 1e-6, 1e-5].map((normEpsilon) => rotateAndStoreKernel({ storage: "f32", normEpsilon }).name)).size,
  ).toBe(3);
});

describe("the shape of a cache", () => {
  it("begins each head where a binding may begin", () => {
    for (const headSize of [6, 8, 64, 80])
      for (const storage of ["f32", "f16"] as const) {
        const shape = shapeOf({ headSize, storage, keyHeads: 3, queryHeads: 3 });
        const { stride, groups } = ringShape(shape, 37, 2, LEAST);
        expect(stride).toBeGreaterThanOrEqual(37);
        expect((stride * quadsOf(shape) * (storage === "f32" ? 16 : 8)) % 256).toBe(0);
        expect(groups).toHaveLength(1);
      }
  });

  it("splits heads when one binding does not hold them, and says so when it does not hold one", () => {
    const shape = shapeOf({ headSize: 64, keyHeads: 8, queryHeads: 32 });
    const limits = { maxBinding: 2 ** 27, maxBuffer: 2 ** 28 };
    expect(ringShape(shape, 2 ** 16, 1, limits).groups).toHaveLength(1);
    const { groups } = ringShape(shape, 3 * 2 ** 16, 1, limits);
    expect(groups.map(({ heads }) => heads)).toEqual([2, 2, 2, 2]);
    expect(groups.every(({ keyBytes }) => keyBytes <= 2 ** 27)).toBe(true);
    expect(ringShape({ ...shape, storage: "f16" }, 3 * 2 ** 16, 1, limits).groups).toHaveLength(2);
    expect(() => ringShape(shape, 2 ** 20, 1, limits)).toThrow(
      /cache of 1048576 tokens takes .* but this device binds 134217728/,
    );
  });
});

describe.skipIf(!gpu)("on the device", () => {
  const random = uniformFloat64(5);

  interface Chunk {
    readonly shape: AttentionShape;
    readonly plan: AttentionPlan;
    readonly first: number;
    readonly count: number;
    readonly capacity: number;
    /** Rows of the projection behind the chunk's own. */
    readonly padding?: number;
    /** The largest number of the projection, 1 unless given. */
    readonly largest?: number;
  }

  /** Stores a chunk's rows and gives back what the ring then has, as words. */
  async function stored({ shape, plan, first, count, capacity, padding = 0, largest = 1 }: Chunk) {
    const { queryHeads, keyHeads, headSize, pairs } = shape;
    const kernels = new AttentionKernels(shape, gpu!.capabilities);
    const width = (queryHeads + 2 * keyHeads) * headSize;
    const projected = Float32Array.from({ length: (count + padding) * width }, () => largest * (2 * random() - 1));
    const slots = new SlotMap({ capacity, pinned: 0 });
    slots.length = first;
    slots.append(count);
    const places = new Map(
      plan.segments.map(({ table, keyPosition }, i) => [rotation(table, keyPosition).id, i] as const),
    );
    const tables = attentionTables({ plan, slots, first, count, headSize, pairs, places, ...kernels.cut(count) });
    const { stride, groups } = ringShape(shape, capacity, places.size, gpu!.capabilities);
    const ring = {
      stride,
      places: places.size,
      groups: groups.map((group) => ({
        ...group,
        keys: gpu!.allocate(group.keyBytes, "test"),
        values: gpu!.allocate(group.valueBytes, "test"),
      })),
    };
    const queries = gpu!.allocate(queryBytes(shape, tables.queryRotations, count), "test");
    const uploaded = gpu!.upload(tables.bytes, "test");
    const rows = gpu!.upload(projected, "test");
    await gpu!.run(kernels.rotateAndStore({ tables, uploaded, projected: rows, queries, ring }));
    const [keys, values] = [await gpu!.read(ring.groups[0].keys), await gpu!.read(ring.groups[0].values)];
    return {
      projected,
      width,
      stride,
      keys: floatsOf(keys),
      values: floatsOf(values),
      queries: floatsOf(await gpu!.read(queries)),
    };
  }

  it("angles at position 100,000 are those of float64", async () => {
    const shape = shapeOf({ headSize: 64, pairs: 32, queryHeads: 1 });
    const table = makeTable(Float64Array.from({ length: 32 }, (_, i) => 10_000 ** (-i / 32)));
    const first = 100_000;
    const { projected, keys, queries } = await stored({
      shape,
      plan: { segments: [causal(table)] },
      first,
      count: 1,
      capacity: 64,
    });
    const angles = Array.from(table.inverse, (inverse) => [
      Math.cos(first * inverse),
      Math.sin(first * inverse),
    ]).flat();
    const slot = first % 64;
    const key = rotatedOracle(projected.subarray(64, 128), angles);
    expect(difference(keys.subarray(64 * slot, 64 * (slot + 1)), key)).toBeLessThan(5e-7);
    const query = rotatedOracle(projected.subarray(0, 64), angles).map((x) => (x * Math.LOG2E) / 8);
    expect(difference(queries, query)).toBeLessThan(5e-7);
  });

  it("writes the chunk's slots round a ring's end and no other, however many rows the buffer has", async () => {
    const shape = shapeOf();
    const { projected, width, stride, keys, values } = await stored({
      shape,
      plan: { segments: [causal(tableOf(3))] },
      first: 8,
      count: 5,
      capacity: 10,
      padding: 11,
    });
    for (let slot = 0; slot < stride; slot++) {
      const row = [8, 9, 0, 1, 2].indexOf(slot);
      const value = values.subarray(8 * slot, 8 * (slot + 1));
      const key = keys.subarray(8 * slot, 8 * (slot + 1));
      const empty = new Float32Array(8);
      expect(value).toEqual(row >= 0 ? projected.subarray(row * width + 32, row * width + 40) : empty);
      expect(key.some((x) => x !== 0)).toBe(row >= 0);
    }
  });

  it("numbers beyond 16 bits become the largest of them", async () => {
    const shape = shapeOf({ storage: "f16", pairs: 0 });
    const plan = { segments: [causal(makeTable(new Float64Array(0)))] };
    const chunk = { shape, plan, first: 0, count: 1, capacity: 4, largest: 1e9 };
    const { projected, keys, values } = await stored(chunk);
    for (const [kept, column] of [[keys, 24], [values, 32]] as const) {
      const own = projected.subarray(column, column + 8);
      expect(Math.min(...own.map(Math.abs))).toBeGreaterThan(65_504);
      const halves = new Uint16Array(kept.buffer, kept.byteOffset, 8);
      expect([...halves]).toEqual(Array.from(own, (number) => (number < 0 ? 0xfbff : 0x7bff)));
    }
  }); // prettier-ignore

  it("norms queries and keys before they are turned", async () => {
    for (const headSize of [8, 6]) {
      const weights = Float32Array.from({ length: 2 * headSize }, () => 0.5 + random());
      const { attended, expected } = await play(gpu!, {
        shape: shapeOf({ headSize, queryHeads: 4, keyHeads: 2 }),
        plan: () => ({ segments: [causal(tableOf(3, 1.3))] }),
        layout: { capacity: 32, pinned: 32 },
        chunks: [13, 1],
        path: "chosen",
        norm: { weights, epsilon: 1e-6 },
      });
      expect(difference(attended, expected)).toBeLessThan(3e-5);
    }
  });
});
