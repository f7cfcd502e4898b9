import { describe, expect, it } from "vitest";
import {
  compose,
  makeDraws,
  type AttentionPlan,
  type SequenceState,
  type ForwardRequest,
  type ModelConfig,
} from "@longctx/core";
import { infini } from "../../../../infini/src/index.ts";
import { blocks } from "../../../../retrieval/src/index.ts";
import { createWebGpu, openGpu, type WebGpuBackend } from "../../../src/webgpu/index.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { failure } from "../failure.ts";
import { gpuError, MockGpu } from "../mock-gpu.ts";
import { planOf } from "../plan-of.ts";

const config: ModelConfig = tinyConfig({ headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } });

async function modelOn(mock: MockGpu, changes: Partial<ModelConfig> = {}) {
  const changed = tinyConfig({ ...config, slidingWindows: undefined, ...changes });
  const layers = Array.from({ length: changed.layerCount }, () => null);
  const own = { ...changed, slidingWindows: layers };
  return createWebGpu(own, tinyWeights(own), { source: mock.source });
}

function read(backend: WebGpuBackend, cache: SequenceState, count: number, more: Partial<ForwardRequest> = {}) {
  const plan = planOf(backend.config, compose(), cache, count);
  return failure(() => backend.forward({ state: cache, ids: tinyIds(count), plan, logitRows: 1, ...more }));
}

const noRoom = (label: string) => new RegExp(`^device: .* is out of memory with .*\\(no room for ${label}\\)`);
const layout = { capacity: 4096, pinned: 4096 };

describe("a device that is out of memory once", () => {
  it.each(["activations", "tables", "uniforms", "readback"])("reads the next chunk: %s", async (label) => {
    const mock = new MockGpu();
    // More than 64 dispatches, so that the uniforms grow; more tokens than were prepared for.
    const backend = await modelOn(mock, { layerCount: 12, maxPositions: 8192 });
    const count = label === "tables" ? 300_000 : 600;
    const large = { capacity: count + 600, pinned: count + 600 };
    const cache = backend.createState(large);
    if (label === "tables") await read(backend, cache, 600);
    mock.failNext = label;
    const more = label === "tables" ? { logitRows: 0 } : {};
    expect(await read(backend, cache, count, more)).toMatch(noRoom(label));
    expect(mock.failNext).toBeNull();
    expect(await read(backend, cache, 1)).toMatch(/^device: The device failed while this state was written/);
    cache.dispose();
    const next = backend.createState(layout);
    for (const tokens of [600, 1, 1]) expect(await read(backend, next, tokens)).toBe("");
    await backend.dispose();
    expect(mock.bytes).toBe(0);
    expect(backend.gpu.ledger.total).toBe(0);
  });

  it("keeps a cache that could not grow, and grows it later", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState(layout);
    expect(await read(backend, cache, 250)).toBe("");
    const { bytes } = cache;
    mock.failNext = "cache";
    expect(await read(backend, cache, 10)).toMatch(noRoom("cache"));
    expect(cache).toMatchObject({ bytes, rings: { length: 250 } });
    expect(backend.gpu.ledger.of("cache")).toBe(bytes);
    expect(await read(backend, cache, 5)).toBe("");
    expect(await read(backend, cache, 10)).toBe("");
    expect(cache.bytes).toBe(2 * bytes);
    await backend.dispose();
  });

  it("keeps a cache that has no room for another copy of its keys as it was for others", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const [cache, other] = [backend.createState(layout), backend.createState(layout)];
    for (const one of [cache, other]) expect(await read(backend, one, 20)).toBe("");
    mock.failNext = "cache";
    expect(await read(backend, cache, 1, { rawKeys: true })).toMatch(noRoom("cache"));
    expect(await read(backend, other, 1, { rawKeys: true })).toBe("");
    await backend.dispose();
    expect(mock.bytes).toBe(0);
  });

  it.each(["fork", "restore"])("breaks what it happened to, and nothing else: %s", async (how) => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState(layout);
    expect(await read(backend, cache, 20)).toBe("");
    const saved = await cache.save();
    mock.failNext = "cache";
    const made = how === "fork" ? cache.fork() : backend.restoreState(layout, saved);
    const grandchild = made.fork();
    expect(await read(backend, cache, 1)).toBe("");
    expect(await read(backend, made, 1)).toMatch(noRoom("cache"));
    expect(await read(backend, made, 1)).toMatch(/^device: The device failed while this state was written/);
    expect(await failure(async () => grandchild.save())).toMatch(noRoom("cache"));
    expect(await read(backend, cache, 1)).toBe("");
    for (const one of [made, grandchild]) one.dispose();
    expect(backend.gpu.ledger.of("cache")).toBe(cache.bytes);
    await backend.dispose();
  });

  it("loses nothing that it read through", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState(layout);
    expect(await read(backend, cache, 20)).toBe("");
    const { bytes } = mock;
    const readback = backend.gpu.ledger.of("readback");
    expect(readback).toBeGreaterThan(0);
    mock.scopeErrors = [gpuError("GPUInternalError", "no")];
    expect(await failure(() => backend.gpu.read(backend.gpu.allocate(4, "test")))).toMatch(/^device: .*refused.*no/);
    expect(backend.gpu.ledger.of("readback")).toBeLessThan(readback);
    expect(mock.bytes).toBe(backend.gpu.ledger.total);
    expect(mock.bytes).toBeLessThan(bytes + 4);
    await backend.dispose();
    expect(mock.bytes).toBe(0);
  });

  it("gives back the weights on a device that others use", async () => {
    const mock = new MockGpu();
    const gpu = await openGpu({ source: mock.source });
    const weights = tinyWeights(config);
    mock.failNext = "weights";
    expect(await failure(() => createWebGpu(config, weights, { device: gpu }))).toMatch(noRoom("weights"));
    expect(mock.bytes).toBe(gpu.ledger.total);
    expect(gpu.ledger.memory).toMatchObject({ weights: 0, cache: 0 });
    const wrong = { ...config, vocabSize: 33 }; // found when layers are there already, with tied ends last
    expect(await failure(() => createWebGpu(wrong, weights, { device: gpu }))).toMatch(/^file: /);
    const wide = { ...config, headSize: 4096 }; // found by attention, which a workgroup has no room for
    expect(await failure(() => createWebGpu(wide, tinyWeights(wide), { device: gpu }))).toMatch(/^config: .*4096/);
    expect(gpu.ledger.of("weights")).toBe(0);
    const backend = await createWebGpu(config, weights, { device: gpu });
    expect(await read(backend, backend.createState(layout), 3)).toBe("");
    gpu.destroy();
    expect(mock.bytes).toBe(0);
  });
});

describe("a chunk that fails", () => {
  it.each([
    ["memory-write", infini({ segment: 8, beta: 0 })],
    ["block-means", blocks({ size: 4, top: 1, local: 4, sinks: 0, exec: 4 })],
  ])("before its dispatches are submitted has them again the next time: %s", async (kernel, method) => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const state = backend.createState(layout);
    const part = (count: number) => ({ plan: planOf(backend.config, compose(method), state, count) });
    expect(await read(backend, state, 7, part(7))).toBe("");
    const { plan } = part(2);
    const broken = (layer: number) => {
      if (layer === 1) throw new Error("no plan");
      return plan(layer);
    };
    const dispatched = () => mock.dispatched.filter((name) => name.startsWith(kernel)).length;
    expect(await read(backend, state, 2, { plan: broken })).toBe("defect: Error: no plan");
    expect(dispatched()).toBe(0);
    state.truncate(7);
    expect(await read(backend, state, 2, part(2))).toBe("");
    expect(dispatched()).toBe(2);
    await backend.dispose();
  });

  it("before its turned keys are computed turns them the next time", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState(layout);
    expect(await read(backend, cache, 20)).toBe("");
    const plan = planOf(backend.config, compose(), cache, 1);
    const broken = (layer: number) => {
      if (layer === 1) throw new Error("no plan");
      return plan(layer);
    };
    const turns = () => mock.dispatched.filter((name) => name.startsWith("turn-keys")).length;
    expect(await read(backend, cache, 1, { rawKeys: true, plan: broken })).toBe("defect: Error: no plan");
    expect(turns()).toBe(0);
    cache.truncate(20);
    expect(await read(backend, cache, 1, { rawKeys: true })).toBe("");
    expect(turns()).toBe(2);
    expect(await read(backend, cache, 1, { rawKeys: true })).toBe("");
    expect(turns()).toBe(2);
    await backend.dispose();
  });
});

describe("a hook that reads with its own model", () => {
  it("is refused instead of waiting for itself, and others are not", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const [cache, other, third] = [1, 2, 3].map(() => backend.createState(layout));
    let [inside, beside] = ["", "unread"];
    let resume: () => void = () => undefined;
    const waiting = new Promise<void>((resolve) => (resume = resolve));
    const hooks = {
      layers: (layer: number) => layer === 0,
      queries: async (_: unknown, plan: AttentionPlan) => {
        inside = await read(backend, other, 1);
        await waiting;
        return plan;
      },
    };
    const reading = read(backend, cache, 3, { hooks });
    await new Promise((resolve) => void setImmediate(resolve));
    const concurrent = read(backend, third, 2).then((said) => (beside = said));
    resume();
    expect(await reading).toBe("");
    await concurrent;
    expect(inside).toMatch(/^argument: A hook asked its own model to read/);
    expect(beside).toBe("");
    expect(other.rings.length).toBe(0);
    await backend.dispose();
  });
});

describe("a hook that answers with less attention than it was shown", () => {
  it("is told so", async () => {
    const backend = await modelOn(new MockGpu());
    const hooks = {
      layers: (layer: number) => layer === 1,
      attended: (_: unknown, attended: Float32Array) => attended.subarray(1),
    };
    expect(await read(backend, backend.createState(layout), 3, { hooks })).toMatch(
      /^argument: A hook replaced the attention of layer 1, 96 numbers, by 95/,
    );
    await backend.dispose();
  });
});

describe("a cache", () => {
  it("is refused by another model of the same device", async () => {
    const gpu = await openGpu({ source: new MockGpu().source });
    const models = [1, 2].map(() => createWebGpu(config, tinyWeights(config), { device: gpu }));
    const [one, other] = await Promise.all(models);
    const cache = one.createState(layout);
    expect(await read(other, cache, 3)).toMatch(/^argument: This state was made by another model on the same device/);
    expect(await read(one, cache, 3)).toBe("");
    gpu.destroy();
  });

  it("that was disposed of says so when its last logits are fetched", async () => {
    const backend = await modelOn(new MockGpu());
    const cache = backend.createState(layout);
    const plan = planOf(backend.config, compose(), cache, 1);
    const { logits } = await backend.sample({ state: cache, ids: [1], plan, logitRows: 1 }, makeDraws({})([1]));
    cache.dispose();
    expect(await failure(logits)).toMatch(/^argument: This state was disposed of/);
    await backend.dispose();
  });
});

describe("a model that is disposed of", () => {
  it("finishes what was asked before, and refuses the rest", async () => {
    const mock = new MockGpu();
    const gpu = await openGpu({ source: mock.source });
    const backend = await createWebGpu(config, tinyWeights(config), { device: gpu });
    const [first, second] = [backend.createState(layout), backend.createState(layout)];
    const reading = read(backend, first, 3);
    const disposing = backend.dispose();
    expect(await read(backend, second, 3)).toMatch(/^argument: This model was disposed of/);
    expect(await reading).toBe("");
    await disposing;
    expect(await read(backend, second, 3)).toMatch(/^argument: /);
    expect(gpu.ledger.of("weights")).toBe(0);
    gpu.destroy();
  });
});

describe("what is said of a failure", () => {
  it("is out of memory rather than what follows from it, and a message alone loses no device", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState(layout);
    expect(await read(backend, cache, 3)).toBe("");
    mock.scopeErrors = [
      gpuError("GPUValidationError", "invalid buffer"),
      gpuError("GPUInternalError", "it was lost somewhere"),
      gpuError("GPUOutOfMemoryError", "no room"),
    ];
    expect(await read(backend, cache, 1)).toMatch(/is out of memory with .*\(no room\)/);
    mock.uncaptured!({ error: gpuError("GPUInternalError", "the track was lost here") });
    expect(await read(backend, backend.createState(layout), 1)).toMatch(/was lost here/);
    expect(await read(backend, backend.createState(layout), 1)).toBe("");
    await backend.dispose();
  });

  it("is that the device was lost, where it says so a while after", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState(layout);
    mock.mapFailure = new Error("AbortError");
    setTimeout(() => mock.lose({ reason: "unknown", message: "gone" }), 20);
    expect(await read(backend, cache, 3)).toMatch(/^device: The WebGPU device A mocked adapter was lost \(gone\)/);
    expect(await read(backend, cache, 3)).toMatch(/was lost \(gone\)/);
    await backend.dispose();
  });
});
