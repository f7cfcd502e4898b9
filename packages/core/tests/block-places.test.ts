import { describe, expect, it } from "vitest";
import { compose, Rings, SlotMap, type RingLayout } from "@longctx/core";
import { BlockCache } from "../src/cpu/state/block-cache.ts";
import { bufferLayout, bufferSlots } from "../src/cpu/state/buffer-layout.ts";
import { ColdSlots, coldSegments } from "../src/cpu/state/cold-tokens.ts";
import { PlacedBlocks } from "../src/cpu/state/placed-blocks.ts";
import { savedBytes } from "../src/common/saved-bytes.ts";
import { tinyConfig } from "./tiny-model.ts";

const near = { first: 3, last: 13, block: 4, blocks: 8, chunk: 8 };
const ring = (capacity: number): RingLayout => ({ capacity, pinned: capacity, near });

describe("the layout of buffers", () => {
  it("is a short ring of whole chunks where the text is much longer", () => {
    // Pinned 3 → 8 slots; moving 13 + 8 → 24; 1.5 · (32 + 32 · 4) = 240.
    expect(bufferLayout(ring(240))).toEqual({ capacity: 32, pinned: 8, reach: 13 });
    expect(bufferLayout(ring(239))).toEqual(ring(239));
    expect(bufferLayout({ capacity: 999, pinned: 999 })).toEqual({ capacity: 999, pinned: 999 });
    expect(bufferLayout({ ...ring(999), pinned: 5 })).toEqual({ ...ring(999), pinned: 5 });
  });

  it("leaves rings alone that are as long, so that their slots are one object", () => {
    const rings = Rings.of(ring(100), 2);
    expect(bufferSlots(rings)).toBe(rings);
    const mixed = Rings.of([ring(1000), { capacity: 1000, pinned: 1000 }], 2);
    expect(bufferSlots(mixed).maps.map(({ layout }) => layout.capacity)).toEqual([32, 1000]);
  });

  it("lets no chunk wrap around, wherever chunks begin", () => {
    const rings = Rings.of(ring(1000), 1);
    const slots = bufferSlots(rings);
    for (const wanted of [5, 8, 8, 1, 1, 1, 30, 2, 9, 8, 8, 8, 8, 7]) {
      const count = Math.min(wanted, near.chunk - (rings.length % near.chunk));
      expect(count).toBeLessThanOrEqual(slots.consecutive);
      rings.append(count);
      slots.append(count);
      const [first, end] = [rings.length - count, rings.length];
      expect(Math.floor(first / 8)).toBe(Math.floor((end - 1) / 8));
      expect(slots.at(0).runs(first, end)).toHaveLength(1);
      for (let token = Math.max(0, first - near.last); token < end; token++)
        expect(slots.at(0).holds(token)).toBe(true);
    }
  });
});

describe("slots of a text that is truncated", () => {
  it("are kept where they hold what is needed, and given anew where not", () => {
    const map = new SlotMap({ capacity: 32, pinned: 8, reach: 13 });
    map.append(8);
    for (let i = 0; i < 10; i++) map.append(8);
    expect(map.oldest()).toBe(64);
    expect([88, 77, 76, 8, 0].map((length) => map.reaches(length))).toEqual([true, true, false, false, true]);
    const rings = Rings.of(ring(1000), 1);
    rings.append(0);
    const slots = bufferSlots(rings);
    for (let i = 0; i < 11; i++) slots.append(8);
    expect(slots.fork().shorten(80).size).toBe(0);
    expect(slots.shorten(50)).toEqual(new Set(slots.maps));
    expect([slots.length, slots.at(0).oldest()]).toEqual([50, 26]);
  });
});

describe("places of blocks", () => {
  it("are taken by the least recently read block's successor", () => {
    const cache = new BlockCache(3);
    cache.take([5, 6, 7]);
    expect([5, 6, 7].map((block) => cache.placeOf(block))).toEqual([0, 1, 2]);
    cache.take([5]);
    cache.take([8]); // 6 was read least recently
    expect([5, 6, 7, 8].map((block) => cache.placeOf(block))).toEqual([0, undefined, 2, 1]);
    cache.take([9, 8, 7]); // never takes the place of a block that is wanted at once
    expect([5, 7, 8, 9].map((block) => cache.placeOf(block))).toEqual([undefined, 2, 1, 0]);
    expect(cache.reads).toEqual({ read: 8, fetched: 5 });
    cache.forget(8);
    cache.grow(5);
    const fork = cache.fork();
    for (const one of [cache, fork]) {
      one.take([1, 2, 3, 4]);
      expect(new Set([1, 2, 3, 4, 7].map((block) => one.placeOf(block)))).toEqual(new Set([0, 1, 2, 3, 4]));
    }
    expect(fork.reads).toEqual({ read: 4, fetched: 4 });
  });

  it("of a buffer follow it from one memory to the other", () => {
    const placed = new PlacedBlocks({ slot: 10, count: 2, block: 4 });
    placed.wrote(0, 7, "ordinary");
    expect(placed.moveFrom("ordinary")).toEqual([{ from: 10, to: 14 }]);
    expect(placed.moveFrom("ordinary")).toEqual([]);
    placed.wrote(1, 8, "shared");
    placed.lose("ordinary");
    expect([placed.holds(0, 7), placed.holds(1, 8), placed.holds(0, 8)]).toEqual([true, true, false]);
    expect(placed.moveFrom("shared")).toEqual([{ from: 10, to: 14 }, { from: 14, to: 18 }]); // prettier-ignore
    placed.wrote(0, 9, "ordinary"); // the other side still has block 7 there
    placed.lose("ordinary");
    expect([placed.holds(0, 7), placed.holds(0, 9), placed.holds(1, 8)]).toEqual([false, false, true]);
    placed.forget(8);
    expect(placed.holds(1, 8)).toBe(false);
  });
});

describe("old tokens", () => {
  const slots = new SlotMap({ capacity: 32, pinned: 8, reach: 13 });
  for (let i = 0; i < 13; i++) slots.append(8); // tokens 8 to 79 are old

  it("that a plan shows are asked for by blocks, and by no more", () => {
    const config = tinyConfig();
    const [segment] = compose().plan({ config, trainedWindow: 32, first: 96, count: 8, length: 104, promptLength: 104, layer: 0 }).segments; // prettier-ignore
    const blocks = (change: Partial<typeof segment>) =>
      coldSegments({ segments: [{ ...segment, ...change }] }, slots, near, 96, 8).map((one) => one.blocks);
    expect(blocks({ band: { from: 0, to: 17 } })).toEqual([]); // of query 96 the last token is 80
    expect(blocks({ band: { from: 0, to: 18 } })).toEqual([[19]]); // token 79
    expect(blocks({ tokens: { from: 0, to: 8 } })).toEqual([]);
    expect(blocks({ tokens: { from: 10, to: 12 } })).toEqual([[1, 2]]);
    expect(blocks({ tokens: Int32Array.of(2, 14, 15, 40, 90, 99) })).toEqual([[2, 3, 9]]);
    expect(blocks({ queries: { from: 104, to: 120 }, tokens: { from: 10, to: 12 } })).toEqual([]);
    expect(blocks({ queries: { from: 103, to: 120 }, band: { from: 0, to: 25 } })).toEqual([[19]]);
  });

  it("are found in the places of their blocks, near ones in the ring", () => {
    const cold = new ColdSlots(slots, near, (block) => ({ 2: 1, 3: 2, 19: 0 })[block]);
    expect([7, 8, 10, 11, 18, 19, 79, 80, 103].map((token) => cold.holds(token))).toEqual([true, false, false, true, true, false, true, true, true]); // prettier-ignore
    expect([11, 15, 79].map((token) => cold.slotOf(token))).toEqual([36, 40, 32]);
    expect(cold.runs(0, 104)).toEqual([
      { from: 0, to: 8, token: 0 },
      { from: 36, to: 44, token: 11 }, // blocks 2 and 3 are neighbours in the text and in the buffer
      { from: 32, to: 33, token: 79 },
      ...slots.runs(80, 104),
    ]);
  });
});

it("a session too long to be saved is a LongctxError", () => {
  expect(() => savedBytes(2 ** 52)).toThrow(/4503599627370496 bytes is longer than an array can be/);
});
