import { existsSync, readFileSync } from "node:fs";
import { afterAll, describe, expect, it, vi } from "vitest";
import { SlotMap, TEXT_POSITION } from "@longctx/core";
import { rotation, UNROTATED } from "../../../src/positions/rotation.ts";
import { part } from "../../../src/webgpu/device/copies.ts";
import type { Gpu } from "../../../src/webgpu/device/gpu.ts";
import { turnTables } from "../../../src/webgpu/attention/angle-tables.ts";
import type { AttentionTables } from "../../../src/webgpu/attention/lane-table.ts";
import { attentionReduce, reduceKernel } from "../../../src/webgpu/attention/attention-reduce.ts";
import { ringShape } from "../../../src/webgpu/attention/attention-shape.ts";
import { attentionSplit, partBytes, splitKernel, splitTiling } from "../../../src/webgpu/attention/attention-split.ts";
import { embed } from "../../../src/webgpu/products/embedding.ts";
import { normalise } from "../../../src/webgpu/products/norm.ts";
import { rotatedOracle } from "../../oracles/rotation.ts";
import { turnKeys, turnKeysKernel } from "../../../src/webgpu/attention/turn-keys.ts";
import { uploadMatrices } from "../../../src/webgpu/weights/weights-upload.ts";
import { shapeOf, tableOf } from "../attention/attention-plans.ts";
import { difference, floatsOf } from "../attention/attention-scene.ts";
import { floats, gpuOrNull, relativeError } from "../device.ts";
import { runProgram } from "../spawn.ts";
import { noisy, storedMatrix } from "../weights/stored-weights.ts";

/** Mistakes that others made, each of which this device must not; the kernels' own tests have the rest of them. */
const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());

/** A driver that computes on a processor compiles each kernel for seconds the first time, and keeps it on disk. */
vi.setConfig({ testTimeout: 300_000 });

describe.skipIf(!gpu)("positions", () => {
  it("of keys that are turned anew at 100,000 are those of float64", async () => {
    const shape = shapeOf({ headSize: 64, pairs: 32, queryHeads: 1 });
    const slow = tableOf(32);
    const text = rotation(slow, TEXT_POSITION);
    const scaled = rotation(slow, { id: "m/3", at: (m) => m / 3 });
    const slots = new SlotMap({ capacity: 8, pinned: 0 });
    slots.append(8);
    slots.length = 100_003; // a ring whose oldest token is 99,995
    const { stride, groups } = ringShape(shape, 8, 3, gpu.capabilities);
    const raw = noisy(groups[0].keyBytes / 4, 3);
    const keys = gpu.upload(raw, "test");
    const ring = { stride, places: 3, groups: [{ ...groups[0], keys, values: gpu.allocate(4, "test") }] };
    for (const [from, to, origin, goal] of [
      [UNROTATED, text, 0, 1],
      [text, scaled, 1, 2],
    ] as const) {
      for (const tables of turnTables(slots, { from: 0, to: slots.length }, { from, to, pairs: 32 })) {
        const uploaded = gpu.upload(tables.bytes, "test");
        const work = { tables, uploaded, ring, from: origin, to: goal };
        await gpu.run(turnKeys(turnKeysKernel(shape), shape, gpu.capabilities, work));
      }
    }
    const kept = floatsOf(await gpu.read(keys));
    for (let token = 99_995; token < 100_003; token++)
      for (const [place, position] of [token, token / 3].entries()) {
        const turn = Array.from(slow.inverse, (step) => [Math.cos(position * step), Math.sin(position * step)]).flat();
        const slot = slots.slotOf(token);
        const own = (which: number) => (which * stride + slot) * 64;
        const expected = rotatedOracle(raw.subarray(own(0), own(0) + 64), turn);
        expect(difference(kept.subarray(own(place + 1), own(place + 1) + 64), expected)).toBeLessThan(1e-6);
      }
  });
});

describe.skipIf(!gpu)("more than 65,535 workgroups", () => {
  it("of a norm", async () => {
    const [tokens, size] = [70_001, 4];
    const input = noisy(tokens * size, 1);
    const output = gpu.allocate(4 * tokens * size, "test");
    const weight = gpu.upload(new Float32Array(size).fill(1), "test");
    const slice = gpu.upload(input, "test");
    const dispatch = normalise(
      { kind: "rms", tokens, size, input: slice, weight, epsilon: 1e-6, output },
      gpu.capabilities,
    );
    await gpu.run([dispatch]);
    const expected = input.map((x, i) => {
      const row = input.subarray(i - (i % size), i - (i % size) + size);
      return x / Math.sqrt(row.reduce((sum, y) => sum + y * y, 0) / size + 1e-6);
    });
    expect(relativeError(await floats(gpu, output), expected)).toBeLessThan(2e-6);
    for (const used of [output, weight, slice]) gpu.free(used);
  });

  it("of pieces of a ring, and of rows to reduce", async () => {
    const shape = shapeOf({ headSize: 4, pairs: 0, queryHeads: 3, keyHeads: 1 });
    const { capabilities } = gpu;
    // Rows of three pieces of a key each, of 64 keys over and over.
    const [slots, rows] = [64, 22_000];
    const pieces = 3 * rows;
    const [query, key, value] = [noisy(3 * 4, 1), noisy(slots * 4, 2), noisy(slots * 4, 3)];
    const upload = (data: ArrayBufferView) => gpu.upload(data, "test");
    const work = new Int32Array(6 * pieces).map((_, i) => [Math.floor(i / 6) % slots, 1, 0, 0, 0, 0][i % 6]);
    const tables = { count: 1, workCount: pieces, sections: sections({ work: work.byteLength, lists: 256 }) };
    const uploaded = gpu.allocate(tables.sections.lists.offset + 256, "test");
    gpu.write(uploaded, work);
    const parts = gpu.allocate(partBytes(shape, pieces), "test");
    const group = { firstHead: 0, heads: 1, keys: upload(key), values: upload(value) };
    const ring = { stride: slots, places: 1, groups: [group] };
    const plan = splitTiling({ shape }, capabilities);
    const split = attentionSplit(splitKernel({ shape }, plan), shape, plan, capabilities, {
      tables: tables as unknown as AttentionTables, uploaded, queries: upload(query), ring, parts,
    }); // prettier-ignore

    const ranges = Uint32Array.from({ length: 2 * rows }, (_, i) => 3 * Math.floor((i + 1) / 2));
    const attended = gpu.allocate(rows * 3 * 4 * 4, "test");
    const reduce = attentionReduce(reduceKernel(plan), shape, capabilities, {
      tables: { count: rows, sections: sections({ ranges: ranges.byteLength }) } as unknown as AttentionTables,
      uploaded: upload(ranges), parts, attended,
    }); // prettier-ignore
    for (const { workgroups } of [...split, reduce]) expect(workgroups[0] * workgroups[1]).toBeGreaterThan(65_535);
    await gpu.run([...split, reduce]);

    const row = (data: Float32Array, i: number) => data.subarray(4 * i, 4 * i + 4);
    const expected = new Float64Array(rows * 3 * 4);
    for (let unit = 0; unit < 3 * rows; unit++) {
      const seen = [0, 1, 2].map((i) => (3 * Math.floor(unit / 3) + i) % slots);
      const weights = seen.map(
        (slot) => 2 ** row(query, unit % 3).reduce((sum, q, c) => sum + q * row(key, slot)[c], 0),
      );
      const total = weights[0] + weights[1] + weights[2];
      for (let c = 0; c < 4; c++)
        expected[4 * unit + c] = seen.reduce((sum, slot, i) => sum + (weights[i] * row(value, slot)[c]) / total, 0);
    }
    expect(difference(await floats(gpu, attended), expected)).toBeLessThan(2e-6);
    for (const used of [uploaded, parts, attended]) gpu.free(used);
  });
});

/** One behind the other, as `attentionTables` packs them. */
function sections<Name extends string>(sizes: Record<Name, number>): Record<Name, { offset: number; size: number }> {
  let offset = 0;
  const placed = Object.entries<number>(sizes).map(([name, size]) => {
    const section = { offset, size };
    offset += Math.ceil(size / 256) * 256;
    return [name, section] as const;
  });
  return Object.fromEntries(placed) as Record<Name, { offset: number; size: number }>;
}

describe.skipIf(!gpu)("subgroups", () => {
  const widths = [128, 256];
  if (existsSync("/proc/cpuinfo") && readFileSync("/proc/cpuinfo", "utf8").includes("avx512f")) widths.push(512);

  it.skipIf(!/llvmpipe/.test(gpu?.name ?? ""))(
    "of 4, 8 and 16, as lavapipe can have them, give the same bits",
    async () => {
      const program = new URL("../programs/split-reduce.ts", import.meta.url);
      const ended = [];
      for (const width of widths) ended.push(await runProgram(program, { LP_NATIVE_VECTOR_WIDTH: String(width) }));
      const results = ended.map(({ code, out, err }) => {
        expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
        return JSON.parse(out) as { maximum: string; subgroups: object; difference: number; bits: string };
      });
      results.forEach((result, i) => {
        const size = widths[i] / 32;
        expect(result).toMatchObject({ maximum: "subgroups", subgroups: { smallest: size, largest: size } });
        expect(result.difference).toBeLessThan(3e-5);
        expect(result.bits).toBe(results[0].bits);
      });
    },
  );
});

/** What a buffer beyond 2^31 bytes takes of the machine's memory where the adapter is its processor, and some more. */
const ROOM = 8 * 2 ** 30;
const far = 2 ** 31 + 4096;

function holdsFar({ capabilities }: Gpu): boolean {
  return capabilities.maxBuffer > far + 4096 && (!capabilities.software || process.availableMemory() > ROOM);
}

describe.skipIf(!gpu || !holdsFar(gpu))("offsets beyond 2^31 bytes", () => {
  it("are written, computed with and read", async () => {
    const large = gpu.allocate(far + 4096, "test");
    const matrix = uploadMatrices(gpu, [storedMatrix("F16", 7, 8)])[0];
    const ids = part(large, far, 16);
    const output = part(large, far + 256, 4 * 8 * 4);
    const near = gpu.allocate(4 * 8 * 4, "test");
    gpu.write(ids, Uint32Array.of(6, 0, 3, 3));
    // A dispatch cannot read and write one buffer, so ids are read there first and rows are copied there then.
    await gpu.run([embed({ matrix, ids, tokens: 4, output: near }, gpu.capabilities)]);
    gpu.copy([{ from: near, to: output, size: 4 * 8 * 4 }]);
    const all = storedMatrix("F16", 7, 8).toFloat32();
    const expected = [6, 0, 3, 3].flatMap((id) => [...all.subarray(8 * id, 8 * id + 8)]);
    expect([...(await floats(gpu, output))]).toEqual(expected);
    gpu.free(large);
  });
});
