import { afterAll, describe, expect, it } from "vitest";
import { constantPosition, SlotMap, TEXT_POSITION, type Choice, type RingLayout } from "@longctx/core";
import { bestBlocks } from "../../../src/method/plan.ts";
import { chooseBlocks } from "../../../src/webgpu/choice/choose-blocks.ts";
import { masksChosen } from "../../../src/webgpu/attention/seen-lanes.ts";
import { tableOf } from "../attention/attention-plans.ts";
import { gpuOrNull } from "../device.ts";
import { noise } from "../weights/stored-weights.ts";

const gpu = (await gpuOrNull())!;
afterAll(() => gpu?.destroy());

const choice = (changes: Partial<Choice>): Choice => ({
  id: "blocks",
  size: 3,
  from: 2,
  candidates: 1,
  count: 1,
  asking: { from: 0, to: 1 },
  table: tableOf(2),
  queryPosition: constantPosition(0),
  keyPosition: constantPosition(0),
  ...changes,
});

describe.skipIf(!gpu)("the best blocks", () => {
  const words = async (slice: Parameters<typeof gpu.read>[0]) =>
    new Uint32Array((await gpu.read(slice)).slice().buffer);

  async function expectBest(scores: Float32Array, count: number, layout: RingLayout, from = 2): Promise<void> {
    const slots = new SlotMap(layout);
    const own = choice({ candidates: scores.length, count, from });
    const [chosen, lists] = [gpu.allocate(4 * (count + 3), "test"), gpu.allocate(8 * (own.size * count + 5), "test")];
    const uploaded = gpu.upload(scores, "test");
    await gpu.run([chooseBlocks({ choice: own, layout, scores: uploaded, chosen, chosenAt: 3, lists, listAt: 5 })]);
    const expected = bestBlocks(scores, count);
    expect([...(await words(chosen)).subarray(3)]).toEqual(expected);
    const tokens = expected.flatMap((block) => [0, 1, 2].map((i) => own.from + 3 * block + i));
    expect([...(await words(lists)).subarray(10)]).toEqual(tokens.flatMap((token) => [slots.slotOf(token), token]));
    for (const slice of [chosen, lists, uploaded]) gpu.free(slice);
  }

  it.each([1, 2, 255, 256, 257, 3000, 20_000])("of %i", async (blocks) => {
    const next = noise(blocks);
    const layout = { capacity: 3 * blocks + 9, pinned: 3 * blocks + 9 };
    const scores = Float32Array.from({ length: blocks }, () => 1e3 * next() ** 5);
    for (const count of new Set([1, Math.ceil(blocks / 3), blocks])) await expectBest(scores, count, layout);
  });

  it("of equal scores take those with the smaller index, 0 and −0 being equal", async () => {
    const layout = { capacity: 3000, pinned: 3000 };
    const next = noise(7);
    const scores = Float32Array.from({ length: 900 }, () => [-1, -0, 0, 2][Math.floor(2 * (next() + 1))]);
    for (const count of [1, 100, 250, 500, 899]) await expectBest(scores, count, layout);
  });

  it("are found in a ring where it has gone round", async () => {
    const scores = Float32Array.from({ length: 40 }, (_, i) => Math.sin(i));
    await expectBest(scores, 9, { capacity: 130, pinned: 4 }, 11);
  });
});

it("a chosen block may be hidden from a query in part only where the band says so", () => {
  const own = choice({ from: 4, size: 8, candidates: 3, count: 2 }); // tokens 4 to 27
  const masks = (band: { from: number; to: number }) => {
    const position = { queryPosition: TEXT_POSITION, keyPosition: TEXT_POSITION };
    const tokens = { choice: own, ranks: { from: 0, to: 2 } };
    return masksChosen({ segments: [{ tokens, table: tableOf(2), ...position, band }] }, 43, 5);
  };
  expect(masks({ from: 16, to: Infinity })).toBe(false);
  expect(masks({ from: 17, to: Infinity })).toBe(true);
  expect(masks({ from: 0, to: 44 })).toBe(false);
  expect(masks({ from: 0, to: 43 })).toBe(true);
});
