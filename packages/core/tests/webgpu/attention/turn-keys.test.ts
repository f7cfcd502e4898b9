import { afterAll, describe, expect, it } from "vitest";
import { SlotMap, TEXT_POSITION } from "@longctx/core";
import { uniformFloat64 } from "../../../src/common/random.ts";
import { angles, rotation, UNROTATED, type Rotation } from "../../../src/positions/rotation.ts";
import { turnTables } from "../../../src/webgpu/attention/angle-tables.ts";
import { ringShape } from "../../../src/webgpu/attention/attention-shape.ts";
import { rotatedOracle } from "../../oracles/rotation.ts";
import { turnKeys, turnKeysKernel, turnKeysTiling } from "../../../src/webgpu/attention/turn-keys.ts";
import { shapeOf, tableOf } from "./attention-plans.ts";
import { difference, floatsOf } from "./attention-scene.ts";
import { gpuOrNull } from "../device.ts";

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

it("a workgroup has whole rows", () => {
  expect(turnKeysTiling(shapeOf({ headSize: 80 }))).toEqual({ threads: 64, rowsAtOnce: 3 });
  expect(turnKeysTiling(shapeOf({ headSize: 512 }))).toEqual({ threads: 128, rowsAtOnce: 1 });
  expect(() => turnKeysTiling(shapeOf({ headSize: 2048 }))).toThrow(/2048 channels/);
});

describe.skipIf(!gpu)("on the device", () => {
  const table = tableOf(3);
  const text = rotation(table, TEXT_POSITION);
  const scaled = rotation(tableOf(3, 1.2), { id: "m/2", at: (m) => m / 2 });

  it.each<[string, Rotation, Rotation, number, number]>([
    ["raw keys to another place", UNROTATED, text, 0, 2],
    ["in place", text, scaled, 1, 1],
    ["back", scaled, UNROTATED, 2, 0],
  ])("%s", async (_what, from, to, origin, goal) => {
    for (const headSize of [8, 6, 80]) {
      const shape = shapeOf({ headSize, queryHeads: 5, keyHeads: 5 });
      const capacity = 21;
      const slots = new SlotMap({ capacity, pinned: 4 });
      for (let i = 0; i < 10; i++) slots.append(3);
      const limits = { ...gpu!.capabilities, maxBinding: 3 * 3 * 128 * 4 * headSize, maxWorkgroupsPerDimension: 3 };
      const { stride, groups } = ringShape(shape, capacity, 3, limits);
      const random = uniformFloat64(headSize);
      const quads = Math.ceil(headSize / 4);
      const kept = groups.map(({ keyBytes }) =>
        Float32Array.from({ length: keyBytes / 4 }, (_, i) => (i % (4 * quads) < headSize ? 2 * random() - 1 : 0)),
      );
      const ring = {
        stride,
        places: 3,
        groups: groups.map((group, g) => ({
          ...group,
          keys: gpu!.upload(kept[g], "test"),
          values: gpu!.allocate(4, "test"),
        })),
      };
      const kernel = turnKeysKernel(shape);
      for (const tables of turnTables(slots, { from: 0, to: 27 }, { from, to, pairs: 3 }, 7))
        await gpu!.run(
          turnKeys(kernel, shape, limits, {
            tables,
            uploaded: gpu!.upload(tables.bytes, "test"),
            ring,
            from: origin,
            to: goal,
          }),
        );
      for (const [g, { heads, keys }] of ring.groups.entries()) {
        const expected = kept[g].slice();
        for (const run of slots.runs(0, 27))
          for (let slot = run.from; slot < run.to; slot++) {
            const { cos, sin } = angles(to, [run.token + slot - run.from], 1, from);
            const turn = Array.from(cos, (x, i) => [x, sin[i]]).flat();
            for (let head = 0; head < heads; head++) {
              const row = (place: number) => ((head * 3 + place) * stride + slot) * 4 * quads;
              expected.set(rotatedOracle(kept[g].subarray(row(origin), row(origin) + headSize), turn), row(goal));
            }
          }
        expect(difference(floatsOf(await gpu!.read(keys)), expected)).toBeLessThan(1e-6);
      }
    }
  });
});
