import { afterAll, describe, expect, it } from "vitest";
import { LongctxError } from "@longctx/core";
import { openGpu } from "../../../src/webgpu/open-gpu.ts";
import type { Capabilities } from "../../../src/webgpu/device/kernel.ts";
import { attentionTiling, tilesCandidates } from "../../../src/webgpu/attention/attention-tilings.ts";
import { splitTiling } from "../../../src/webgpu/attention/attention-split.ts";
import { productTiling, productCandidates, productClass } from "../../../src/webgpu/products/product-path.ts";
import { tileMemory } from "../../../src/webgpu/products/product-tile.ts";
import { tune } from "../../../src/webgpu/tuning/tune.ts";
import { attentionClass } from "../../../src/webgpu/attention/attention-shape.ts";
import { parseTuning, tuningRecord } from "../../../src/webgpu/tuning/stored-tuning.ts";
import { PRODUCT_CLASSES, type Tuning } from "../../../src/webgpu/device/tilings.ts";
import { LEAST } from "../attention/attention-scene.ts";
import { shapeOf } from "../attention/attention-plans.ts";
import { gpuOrNull } from "../device.ts";
import { MockGpu } from "../mock-gpu.ts";
import { KEY } from "../products/product-scene.ts";

const shape = shapeOf({ queryHeads: 9, keyHeads: 3, headSize: 64 });
const processor: Capabilities = { ...LEAST, software: true, subgroups: { smallest: 8, largest: 8 } };
const halves: Capabilities = { ...LEAST, f16: true };
/** Those that a device has candidates for. */
const classesOf = ({ f16 }: Pick<Capabilities, "f16">) =>
  PRODUCT_CLASSES.filter((name) => f16 || !name.endsWith("fast"));
const tuning: Tuning = {
  products: {
    "one row, plain": { path: "rows", teamSize: 16, teams: 8, rows: 4, tokens: 1, unit: "block" },
    "many rows, plain": { path: "tiles", side: 8, wide: 8, tall: 4 },
  },
  tiles: { [attentionClass(shape)]: { path: "tiles", rows: 32, keys: 16 } },
  pieces: { [attentionClass(shape)]: { threads: 128, longest: 128 } },
};
const tuned: Capabilities = { ...LEAST, tuning };

describe("tilings of a tuning", () => {
  it("are taken for what they were measured on", () => {
    const sizes = { rows: 576, blocks: 18 };
    expect(productTiling(KEY, { tokens: 1, ...sizes }, tuned)).toEqual(tuning.products["one row, plain"]);
    expect(productTiling(KEY, { tokens: 512, ...sizes }, tuned)).toEqual(tuning.products["many rows, plain"]);
    expect(attentionTiling(shape, tuned)).toEqual({ path: "tiles", rows: 32, keys: 16 });
    expect(splitTiling({ shape }, tuned)).toMatchObject({ threads: 128, longest: 128 });
  });

  it("are not taken for other types, a few rows or other heads", () => {
    const sizes = { rows: 576, blocks: 18 };
    for (const [type, tokens] of [
      ["Q4_0", 1],
      ["F32", 4],
      ["F32", 20],
    ] as const)
      expect(productTiling({ ...KEY, type }, { tokens, ...sizes }, tuned)).toEqual(
        productTiling({ ...KEY, type }, { tokens, ...sizes }, LEAST),
      );
    const other = shapeOf({ headSize: 128 });
    expect(attentionTiling(other, tuned)).toEqual(attentionTiling(other, LEAST));
    expect(splitTiling({ shape: other }, tuned)).toEqual(splitTiling({ shape: other }, LEAST));
    expect(productClass("F16", 63, false)).toBeNull();
  });

  it("keep gate and up in one invocation", () => {
    const narrow = { ...tuning.products["one row, plain"]!, rows: 1 } as Tuning["products"]["one row, plain"];
    const capabilities = { ...LEAST, tuning: { ...tuning, products: { "one row, plain": narrow } } };
    const tiling = productTiling({ ...KEY, activation: "silu" }, { tokens: 1, rows: 64, blocks: 2 }, capabilities);
    expect(tiling).toMatchObject({ path: "rows", rows: 2 });
  });

  it("are of halves only where the device multiplies them, and tried beside those of floats there", () => {
    const of = "many rows, packed, fast";
    for (const capabilities of [LEAST, processor, { ...processor, f16: true }])
      expect(productCandidates(of, capabilities)).toEqual([]);
    const candidates = productCandidates(of, halves);
    const floats = candidates.filter((tiling) => tiling.path === "tiles" && !tiling.half);
    expect(floats).toEqual(productCandidates("many rows, packed", halves));
    expect(candidates.length).toBeGreaterThan(2 * floats.length);
  });

  it("have the usual ones among their candidates, and fit the device", () => {
    for (const capabilities of [LEAST, processor, halves]) {
      for (const name of classesOf(capabilities)) {
        const candidates = productCandidates(name, capabilities);
        expect(candidates.length).toBeGreaterThan(2);
        const bytes = candidates.map((tiling) => (tiling.path === "tiles" ? tileMemory(tiling) : 0));
        expect(Math.max(...bytes)).toBeLessThanOrEqual(capabilities.maxWorkgroupMemory);
      }
      for (const name of classesOf(capabilities).filter((of) => of.startsWith("many"))) {
        const precision = name.endsWith("fast") ? "fast" : "exact";
        const type = name.includes("packed") ? "Q4_0" : "F32";
        const usual = productTiling(
          { ...KEY, type },
          { tokens: 2048, rows: 1536, blocks: 18, precision },
          capabilities,
        );
        expect(productCandidates(name, capabilities)).toContainEqual(usual);
      }
      expect(tilesCandidates(shape, capabilities)).toContainEqual(attentionTiling(shape, capabilities));
    }
  });
});

describe("a stored tuning", () => {
  const stored = (): Record<string, unknown> =>
    JSON.parse(JSON.stringify(tuningRecord("GPU", tuning))) as Record<string, unknown>;

  it("comes back as it was", () => {
    expect(parseTuning(stored(), "GPU", LEAST)).toEqual(tuning);
    // Files of earlier versions have this name for the size of a team.
    expect(stored()).toMatchObject({ products: { "one row, plain": { path: "rows", lanes: 16 } } });
  });

  it.each([
    ["no object", () => 7, /is not one that longctx wrote/],
    ["another format", () => ({ ...stored(), format: "x" }), /is not one that longctx wrote/],
    ["another version", () => ({ ...stored(), version: 9 }), /has version 9/],
    ["another adapter's", () => ({ ...stored(), adapter: "Other" }), /is that of Other, not of GPU/],
    ["a section too few", () => ({ ...stored(), tiles: undefined }), /has no tiles/],
    ["an unknown product", () => ({ ...stored(), products: { many: {} } }), /names products "many"/],
    [
      "a tiling nobody tried",
      () => ({ ...stored(), products: { "one row, plain": { ...tuning.products["one row, plain"], rows: 1000 } } }),
      /a plan for "one row, plain" that this version does not try/,
    ],
    ["a tiling that is no object", () => ({ ...stored(), pieces: { x: null } }), /a plan for "x"/],
  ])("is refused when it is %s", (_, make, message) => {
    expect(() => parseTuning(make(), "GPU", LEAST)).toThrow(LongctxError);
    expect(() => parseTuning(make(), "GPU", LEAST)).toThrow(message);
  });

  it.each([false, true])("is made of every kernel's candidates, with halves: %s", async (f16) => {
    const mocked = await openGpu({ source: new MockGpu({ features: f16 ? ["shader-f16"] : [] }).source });
    const { tuning: found, results } = await tune(mocked, {
      rows: 64,
      columns: 64,
      attention: shape,
      chunk: 64,
      context: 64,
    });
    expect(results.map(({ name }) => name)).toEqual([...classesOf({ f16 }), "many queries", "one query"]);
    expect(results.every(({ tried, standard }) => tried > 2 && standard.length > 0)).toBe(true);
    expect(parseTuning(tuningRecord(mocked.adapter, found), mocked.adapter, mocked.capabilities)).toEqual(found);
    mocked.destroy();
  });

  it.each<[string, typeof shape, number]>([
    ["before", shape, 0],
    ["between two tilings", shape, 2],
    ["before it learns that its heads are too large", shapeOf({ headSize: 4096 }), Infinity],
  ])("leaves nothing behind when it ends early: %s", async (_, attention, done) => {
    const mock = new MockGpu();
    const mocked = await openGpu({ source: mock.source });
    const enough = new AbortController();
    let begun = 0;
    const onProgress = () => {
      if (begun++ === done) enough.abort(new Error("enough"));
    };
    const sizes = { rows: 64, columns: 64, attention, chunk: 64, context: 64 };
    const stopped = tune(mocked, sizes, { signal: enough.signal, onProgress });
    await expect(stopped).rejects.toThrow(done === Infinity ? /4096 channels do not fit/ : "enough");
    expect(mocked.ledger.of("weights") + mocked.ledger.of("trials")).toBe(0);
    mocked.destroy();
    expect(mock.bytes).toBe(0);
  });

  it("is asked for by the adapter's id when a device is opened", async () => {
    const { source } = new MockGpu({ description: "Card 7" });
    const asked: string[] = [];
    const empty = { products: {}, tiles: {}, pieces: {} };
    const gpu = await openGpu({ source, tuning: (id) => (asked.push(id), tuningRecord(id, empty)) });
    expect(asked).toEqual(["Card 7"]);
    expect(gpu.adapter).toBe("Card 7");
    expect(gpu.capabilities.tuning).toEqual(empty);
    gpu.destroy();
  });

  it("that cannot be used is told, or an error that gives the device back", async () => {
    const told: string[] = [];
    const good = new MockGpu();
    const gpu = await openGpu({ source: good.source, tuning: () => ({}), onTuningProblem: (text) => told.push(text) });
    expect(gpu.capabilities.tuning).toBeUndefined();
    expect(told).toEqual([expect.stringMatching(/is not one that longctx wrote.*longctx tune/)]);
    gpu.destroy();
    const bad = new MockGpu();
    await expect(openGpu({ source: bad.source, tuning: () => ({}) })).rejects.toThrow(LongctxError);
    expect([bad.deviceDestroyed, bad.released]).toEqual([true, true]);
  });
});

const gpu = await gpuOrNull();
afterAll(() => gpu?.destroy());

describe.skipIf(!gpu)("tuning", () => {
  const sizes = { rows: 64, columns: 64, attention: shapeOf({ headSize: 8 }), chunk: 64, context: 64 };

  it("measures kernels and leaves nothing behind", async () => {
    const names: string[] = [];
    const only = ["one row, plain", "many queries"] as const;
    const onProgress = (_: number, __: number, name: string) => names.push(name);
    const { tuning: found, results } = await tune(gpu!, sizes, { rounds: 1, only, onProgress });
    expect(results.map(({ name }) => name)).toEqual(only);
    for (const { standardTime, bestTime } of results) expect(bestTime).toBeLessThanOrEqual(standardTime);
    expect(new Set(names).size).toBe(results.length);
    expect(parseTuning(tuningRecord(gpu!.adapter, found), gpu!.adapter, gpu!.capabilities)).toEqual(found);
    expect(gpu!.ledger.of("weights") + gpu!.ledger.of("trials")).toBe(0);
  });
});
