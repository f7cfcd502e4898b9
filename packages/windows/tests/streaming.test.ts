import { describe, expect, it } from "vitest";
import { compose, MethodRegistry } from "@longctx/core";
import { streaming, windowMethods } from "../src/index.ts";
import { distances } from "../../rope/tests/distances.ts";
import { largestDifference, readText, tinyBackend, tinyConfig, tinyIds } from "../../core/tests/tiny-model.ts";

const config = tinyConfig();
const context = { config, trainedWindow: 32 };

describe("streaming's distances", () => {
  it("are the paper's slots once the cache is full", () => {
    // Tokens 0-3 and 6-8 are kept, and the ninth is decoded at slot 7 (section 3.2's figure).
    expect(distances(streaming({ sinks: 4, window: 4 }), config, 9)).toEqual([7, 6, 5, 4, null, null, 3, 2, 1, 0]);
    expect(distances(streaming({ sinks: 2, window: 3 }), config, 100).map((distance, n) => [n, distance]).filter(([, distance]) => distance !== null)).toEqual([[0, 4], [1, 3], [98, 2], [99, 1], [100, 0]]); // prettier-ignore
  });

  it("are true while the cache fills", () => {
    const method = streaming({ sinks: 2, window: 3 });
    for (let m = 0; m < 5; m++)
      expect(distances(method, config, m)).toEqual(Array.from({ length: m + 1 }, (_, n) => m - n));
    expect(distances(method, config, 5)).toEqual([4, 3, null, 2, 1, 0]);
  });

  it("work without sinks and with a window of one", () => {
    expect(distances(streaming({ sinks: 0, window: 3 }), config, 5)).toEqual([null, null, null, 2, 1, 0]);
    expect(distances(streaming({ sinks: 0, window: 1 }), config, 5)).toEqual([null, null, null, null, null, 0]);
    expect(distances(streaming({ sinks: 1, window: 1 }), config, 5)).toEqual([1, null, null, null, null, 0]);
  });

  it("stay within a checkpoint's own sliding window", () => {
    const sliding = tinyConfig({ slidingWindows: [3, 3] });
    expect(distances(streaming({ sinks: 1, window: 5 }), sliding, 8)).toEqual([
      null,
      null,
      null,
      null,
      null,
      null,
      2,
      1,
      0,
    ]);
  });
});

describe("streaming's cache", () => {
  it("has sinks + window + chunk - 1 slots", () => {
    expect(streaming({ sinks: 4, window: 1020 }).layout!({ ...context, layer: 0, chunk: 64 })).toEqual({
      capacity: 1087,
      pinned: 4,
    });
  });
});

describe("streaming on a model", () => {
  const ids = tinyIds(40);
  const backend = tinyBackend();

  it("is the model as it is while everything fits", async () => {
    const plain = await readText(backend, compose(), ids);
    for (const method of [streaming({ sinks: 4, window: 36 }), streaming({ sinks: 0, window: 40 })]) {
      expect(largestDifference(await readText(backend, compose(method), ids), plain)).toBeLessThan(1e-6);
    }
  });

  it("forgets the middle: with one layer only sinks and window matter", async () => {
    const oneLayer = tinyBackend({ layerCount: 1 });
    const method = compose(streaming({ sinks: 2, window: 5 }));
    const last = (logits: Float32Array) => logits.slice(-32);
    const changed = ids.map((id, n) => (n >= 2 && n < 35 ? (id + 7) % 32 : id));
    expect(last(await readText(oneLayer, method, changed))).toEqual(last(await readText(oneLayer, method, ids)));
    const sink = ids.map((id, n) => (n === 1 ? (id + 7) % 32 : id));
    expect(
      largestDifference(last(await readText(oneLayer, method, sink)), last(await readText(oneLayer, method, ids))),
    ).toBeGreaterThan(1e-5);
  });
});

describe("streaming's row", () => {
  it("is parsed and printed", () => {
    const registry = new MethodRegistry(windowMethods);
    expect(registry.parse("streaming:window=1020")[0].spec).toBe("streaming:window=1020");
    expect(registry.parse("streaming:sinks=8,window=1016")[0].spec).toBe("streaming:sinks=8,window=1016");
    expect(streaming({ window: 3 }).axes).toEqual(["visibility", "distance"]);
  });

  it.each([
    { window: 0 },
    { window: 2.5 },
    { window: Number.NaN },
    { window: 8, sinks: -1 },
    { window: 8, sinks: 0.5 },
  ])("refuses %o", (parameters) => {
    expect(() => streaming(parameters)).toThrow(/streaming: (window|sinks) is .* but has to be a whole number/);
  });
});
