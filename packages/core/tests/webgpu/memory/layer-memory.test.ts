import { afterAll, describe, expect, it } from "vitest";
import { SlotMap, type MemoryBranch } from "@longctx/core";
import { UNROTATED } from "../../../src/positions/rotation.ts";
import { LayerMemory } from "../../../src/reference/memory.ts";
import { ringShape, quadsOf, rowBytesOf, type AttentionShape } from "../../../src/webgpu/attention/attention-shape.ts";
import { attentionTables } from "../../../src/webgpu/attention/lane-table.ts";
import { Workspace } from "../../../src/webgpu/device/workspace.ts";
import { layerMemoryPass } from "../../../src/webgpu/memory/layer-memory.ts";
import { memoryBytes } from "../../../src/webgpu/state/layer-buffers.ts";
import { floats, gpuOrNull } from "../device.ts";
import { noise } from "../weights/stored-weights.ts";

const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());

const SEGMENT = 20;
const SCALE = 0.4;

describe.skipIf(!gpu)("the memory of a layer", () => {
  const half = new Float32Array(1);
  /** A number that 16 bits hold exactly, so that both storages are given the same. */
  const rounded = (x: number) => ((half[0] = Math.round(x * 128) / 128), half[0]);

  it.each([
    ["linear", "f32", 8, 8, 1],
    ["delta", "f32", 8, 8, 1],
    ["linear", "f16", 20, 20, 2],
    ["delta", "f16", 64, 64, 3],
    ["delta", "f32", 8, 6, 2], // a model with heads of 6 channels
    ["delta", "f32", 72, 72, 3],
  ] as const)(
    "%s, keys in %s, heads of %i channels, %i of them the model's, in %i buffers",
    async (update, storage, headSize, channels, buffers) => {
      const shape: AttentionShape = { queryHeads: 6, keyHeads: 3, headSize, pairs: 2, storage };
      const { queryHeads, keyHeads } = shape;
      const layout = { capacity: 73, pinned: 2 };
      const quads = quadsOf(shape);
      const next = noise(headSize + buffers);
      const rows = (count: number, heads: number) =>
        Array.from({ length: count }, () =>
          Array.from({ length: heads }, () =>
            Array.from({ length: 4 * quads }, (_, i) => (i < channels ? rounded(3 * next()) : 0)),
          ),
        );
      const total = 90;
      const [queries, keys, values, attended] = [
        rows(total, queryHeads),
        rows(total, keyHeads),
        rows(total, keyHeads),
        rows(total, queryHeads),
      ];
      const branch: MemoryBranch = {
        segment: SEGMENT,
        update,
        gates: [new Float32Array(queryHeads), Float32Array.from({ length: queryHeads }, (_, h) => h - 2.5)],
      };

      // Keys without rotation lie in place 1 of 2; one binding holds the keys of so many heads that there are `buffers`.
      const places = 2;
      const slotBytes = rowBytesOf(shape);
      const whole = ringShape(shape, layout.capacity, places, gpu.capabilities);
      const maxBinding = Math.ceil(keyHeads / buffers) * places * whole.stride * slotBytes;
      const { stride, groups } = ringShape(shape, layout.capacity, places, { ...gpu.capabilities, maxBinding });
      expect(groups.length).toBe(buffers);
      const ring = {
        stride,
        places,
        groups: groups.map(({ firstHead, heads, keyBytes, valueBytes }) => ({
          firstHead,
          heads,
          keys: gpu.allocate(keyBytes, "test"),
          values: gpu.allocate(valueBytes, "test"),
        })),
      };
      const stored = (row: readonly number[]) =>
        storage === "f32" ? Float32Array.from(row) : Uint16Array.from(row, halfBits);
      const slots = new SlotMap(layout);
      const workspace = new Workspace(gpu);
      const { matrix, sums } = memoryBytes(shape);
      const memory = { matrix: gpu.allocate(matrix, "test"), sums: gpu.allocate(sums, "test"), written: 0, segment: 0 };
      const judge = new LayerMemory({ queryHeads, keyHeads, headSize: channels });
      const flat = (from: number, to: number, of: readonly (readonly (readonly number[])[])[]) =>
        Float64Array.from(of.slice(from, to).flatMap((heads) => heads.flatMap((head) => head.slice(0, channels))));

      for (const count of [7, 1, 35, 1, 1, 45]) {
        const first = slots.length;
        slots.append(count);
        for (let token = first; token < first + count; token++)
          for (const { firstHead, heads, keys: keyBuffer, values: valueBuffer } of ring.groups)
            for (let head = 0; head < heads; head++) {
              const slot = slots.slotOf(token);
              gpu.write(
                keyBuffer,
                stored(keys[token][firstHead + head]),
                ((head * places + 1) * stride + slot) * slotBytes,
              );
              gpu.write(valueBuffer, stored(values[token][firstHead + head]), (head * stride + slot) * slotBytes);
            }
        const tables = attentionTables({
          plan: { segments: [], memory: branch },
          slots,
          first,
          count,
          headSize,
          scale: SCALE,
          pairs: 2,
          places: new Map([[UNROTATED.id, 1]]),
          tileRows: 16,
        });
        expect(tables.rawRotation).toBe(0);
        const scaled = queries
          .slice(first, first + count)
          .flat(2)
          .map((x) => x * SCALE * Math.LOG2E);
        const goal = {
          queries: gpu.upload(Float32Array.from(scaled), "test"),
          attended: gpu.upload(Float32Array.from(attended.slice(first, first + count).flatMap((heads) => heads.flatMap((head) => head.slice(0, headSize)))), "test"), // prettier-ignore
          gates: gpu.upload(Float32Array.from(branch.gates.flatMap((gates) => [...gates].map((gate) => 1 / (1 + Math.exp(-gate))))), "test"), // prettier-ignore
        };
        const uploaded = gpu.upload(tables.bytes, "test");
        const pass = { branch, memory, layer: 1, channels, ring, rawPlace: 1, slots, tables, uploaded, goal };
        await gpu.run(layerMemoryPass(shape, gpu.capabilities, workspace, pass));

        const expected = flat(first, first + count, attended);
        judge.pass(branch, branch.gates[1], { first, queries: flat(first, first + count, queries), attended: expected }, (from, to) => ({ keys: flat(from, to, keys), values: flat(from, to, values) })); // prettier-ignore
        const computed = await floats(gpu, goal.attended);
        let largest = 0;
        expected.forEach((x, i) => {
          const at = Math.floor(i / channels) * headSize + (i % channels);
          largest = Math.max(largest, Math.abs(computed[at] - x));
        });
        expect(largest).toBeLessThan(2e-4);
        expect(memory).toMatchObject({ written: judge.written, segment: judge.segment });
      }
      expect(memory.written).toBe(4);
      workspace.release();
    },
  );
});

/** Bits in half precision of a multiple of 1/128 below 16. */
function halfBits(x: number): number {
  if (x === 0) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(x)));
  return (x < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | ((Math.abs(x) / 2 ** exponent - 1) * 1024);
}
