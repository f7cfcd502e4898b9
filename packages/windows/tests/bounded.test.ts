import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { compose, MethodRegistry, SlotMap, type Method } from "@longctx/core";
import { lmInfinite, sliding, streaming, windowMethods } from "../src/index.ts";
import { distances } from "../../rope/tests/distances.ts";
import { largestDifference, readText, tinyBackend, tinyConfig, tinyIds } from "../../core/tests/tiny-model.ts";

const config = tinyConfig();
const context = { config, trainedWindow: 32 };
const text = (count: number) => Array.from({ length: count }, (_, n) => count - 1 - n);
const window = fc.integer({ min: 1, max: 9 });
const sinks = fc.integer({ min: 0, max: 5 });
const query = fc.nat(40);

describe("sliding", () => {
  it("shows m − n < window at true distances", () => {
    expect(distances(sliding({ window: 3 }), config, 8)).toEqual([null, null, null, null, null, null, 2, 1, 0]);
    expect(distances(sliding({ window: 1 }), config, 2)).toEqual([null, null, 0]);
    expect(distances(sliding({ window: 9 }), config, 8)).toEqual(text(9));
  });

  it("is the narrower of two windows where a layer has one of its own", () => {
    const own = tinyConfig({ slidingWindows: [4, null] });
    fc.assert(
      fc.property(window, query, (w, m) => {
        expect(distances(sliding({ window: w }), own, m)).toEqual(
          distances(sliding({ window: Math.min(w, 4) }), config, m),
        );
      }),
    );
  });
});

describe("lm-infinite", () => {
  it("has sinks that left the window at exactly its length", () => {
    expect(distances(lmInfinite({ sinks: 2, window: 3 }), config, 8)).toEqual([3, 3, null, null, null, null, 2, 1, 0]);
    expect(distances(lmInfinite({ sinks: 2, window: 3 }), config, 3)).toEqual([3, 2, 1, 0]);
    expect(distances(lmInfinite({ sinks: 2, window: 3 }), config, 4)).toEqual([3, 3, 2, 1, 0]);
    expect(distances(lmInfinite({ window: 3 }), config, 20).filter((distance) => distance === 3)).toHaveLength(10);
  });

  it("is full attention up to its window, sliding without sinks, and its Λ is that of streaming", () => {
    fc.assert(
      fc.property(sinks, window, query, (s, w, m) => {
        const all = distances(lmInfinite({ sinks: s, window: w }), config, m);
        const full = text(m + 1);
        expect(all.slice(-w)).toEqual(full.slice(-w));
        const bare = distances(lmInfinite({ sinks: 0, window: w }), config, m);
        expect(bare).toEqual(distances(sliding({ window: w }), config, m));
        expect(all.map((distance) => distance === null)).toEqual(
          distances(streaming({ sinks: s, window: w }), config, m).map((distance) => distance === null),
        );
      }),
    );
  });

  it("stays within a checkpoint's own sliding window", () => {
    const own = tinyConfig({ slidingWindows: [5, 5] });
    expect(distances(lmInfinite({ sinks: 2, window: 3 }), own, 4)).toEqual([3, 3, 2, 1, 0]);
    expect(distances(lmInfinite({ sinks: 2, window: 3 }), own, 5)).toEqual([null, 3, null, 2, 1, 0]);
    expect(distances(lmInfinite({ sinks: 2, window: 3 }), own, 8)).toEqual([null, null, null, null, null, null, 2, 1, 0]); // prettier-ignore
  });
});

/** Methods that show s sinks (none under sliding) and the last w tokens. */
const BOUNDED: Readonly<Record<string, (s: number, w: number) => Method>> = {
  sliding: (_, w) => sliding({ window: w }),
  streaming: (s, w) => streaming({ sinks: s, window: w }),
  "lm-infinite": (s, w) => lmInfinite({ sinks: s, window: w }),
};

describe.each(Object.entries(BOUNDED))("%s", (name, create) => {
  const kept = (s: number) => (name === "sliding" ? 0 : s);

  it("keeps every token that a query of a chunk sees, and no more than that takes", () => {
    fc.assert(
      fc.property(sinks, window, fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 12 }), (s, w, chunks) => {
        const method = compose(create(s, w));
        const layout = method.layout({ ...context, layer: 0, chunk: 6 })!;
        expect(layout).toEqual({ capacity: kept(s) + w + 5, pinned: kept(s) });
        const slots = new SlotMap(layout);
        for (const count of chunks) {
          const first = slots.length;
          slots.append(count);
          for (let m = first; m < first + count; m++)
            distances(method, config, m).forEach((distance, n) =>
              expect(distance === null || slots.holds(n)).toBe(true),
            );
        }
      }),
    );
  });

  it("does not depend on the chunks, and is the model as it is while everything fits", async () => {
    const backend = tinyBackend();
    const ids = tinyIds(40);
    const method = compose(create(2, 5));
    const whole = await readText(backend, method, ids);
    for (const chunk of [1, 3, 7, 16])
      expect(largestDifference(await readText(backend, method, ids, { chunk }), whole)).toBeLessThan(1e-6);
    const plain = await readText(backend, compose(), ids);
    expect(largestDifference(whole, plain)).toBeGreaterThan(1e-3);
    expect(largestDifference(await readText(backend, compose(create(2, 40)), ids), plain)).toBeLessThan(1e-6);
  });

  it("forgets the middle: with one layer only what is visible matters", async () => {
    const backend = tinyBackend({ layerCount: 1 });
    const method = compose(create(2, 5));
    const ids = tinyIds(40);
    const last = async (read: readonly number[]) => (await readText(backend, method, read, { chunk: 6 })).slice(-32);
    const begin = kept(2);
    const changed = ids.map((id, n) => (n >= begin && n < 35 ? (id + 7) % 32 : id));
    expect(await last(changed)).toEqual(await last(ids));
    const recent = ids.map((id, n) => (n === 35 ? (id + 7) % 32 : id));
    expect(largestDifference(await last(recent), await last(ids))).toBeGreaterThan(1e-5);
  });
});

describe("bad input", () => {
  const registry = new MethodRegistry(windowMethods);
  it.each([
    ["sliding", "sliding needs window"],
    ["sliding:window=0", "a whole number of at least 1"],
    ["sliding:window=2.5", "a whole number of at least 1"],
    ["sliding:window=4,sinks=2", 'no parameter "sinks"'],
    ["lm-infinite:sinks=4", "lm-infinite needs window"],
    ["lm-infinite:sinks=-1,window=4", "a whole number of at least 0"],
    ["lm-infinite:window=NaN", "window is NaN"],
  ])("%s is refused", (spec, message) => {
    expect(() => registry.parse(spec)).toThrow(message);
  });
});
