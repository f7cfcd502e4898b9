import { describe, expect, it } from "vitest";
import { compose, makeDraws, type ModelConfig, type SamplingOptions } from "@longctx/core";
import { createWebGpu, openGpu } from "../../../src/webgpu/index.ts";
import { planOf } from "../plan-of.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { failure } from "../failure.ts";
import { gpuError, MockGpu, type MockOptions } from "../mock-gpu.ts";

async function modelOn(mock: MockGpu, changes: Partial<ModelConfig> = {}) {
  const config = tinyConfig({ headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 }, ...changes });
  return createWebGpu(config, tinyWeights(config), { source: mock.source });
}

/** Reads ids, one call each. */
async function readEach(
  backend: Awaited<ReturnType<typeof modelOn>>,
  cache: ReturnType<typeof backend.createState>,
  ids: readonly number[],
) {
  for (const id of ids)
    await backend.forward({ state: cache, ids: [id], plan: planOf(backend.config, compose(), cache, 1), logitRows: 1 });
}

describe("a decode step", () => {
  it("is one pass of at most 8 dispatches a layer", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock, { layerCount: 5, slidingWindows: [null, null, null, null, null] });
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    await readEach(backend, cache, tinyIds(3));
    mock.dispatched = [];
    const { passes, submits } = mock.log;
    await readEach(backend, cache, [5]);
    expect(mock.log.passes - passes).toBe(1);
    expect(mock.log.submits - submits).toBe(1);
    const kinds = mock.dispatched.map((name) => name.split(" ")[0]);
    expect(kinds).toEqual([
      "embedding",
      ...Array.from({ length: 5 }, () => [
        "product",
        "rotate-and-store",
        "attention-split",
        "attention-reduce",
        "product",
        "product",
        "product",
      ]).flat(),
      "product",
    ]);
    expect((kinds.length - 2) / 5).toBeLessThanOrEqual(8);
    await backend.dispose();
  });

  it("is 8 dispatches a layer with a mixture of experts, and nothing is read back to choose them", async () => {
    const mock = new MockGpu();
    const experts = { count: 6, perToken: 2, feedForwardSize: 16, renormalise: true };
    const backend = await modelOn(mock, { experts });
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    await readEach(backend, cache, tinyIds(3));
    mock.dispatched = [];
    mock.read = 0;
    const { submits, buffers, bindGroups } = mock.log;
    await readEach(backend, cache, [5]);
    expect(mock.log).toMatchObject({ submits: submits + 1, buffers, bindGroups });
    expect(mock.read).toBe(4 * backend.config.vocabSize);
    const kinds = mock.dispatched.map((name) => name.split(" ")[0]);
    const attention = ["product", "rotate-and-store", "attention-split", "attention-reduce", "product"];
    const layer = [...attention, "route", "expert", "expert"];
    expect(kinds).toEqual(["embedding", ...layer, ...layer, "product"]);
    await backend.dispose();
  });

  it("allocates nothing and makes nothing that the step before had", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    await readEach(backend, cache, tinyIds(4));
    const { buffers, bindGroups, pipelines } = mock.log;
    await readEach(backend, cache, tinyIds(6));
    expect(mock.log).toMatchObject({ buffers, bindGroups, pipelines });
    await backend.dispose();
  });

  it.each<[string, SamplingOptions, string[]]>([
    ["greedily", {}, ["argmax", "argmax"]],
    ["by chance", { temperature: 0.8, topK: 5, topP: 0.9, minP: 0.1 }, ["sample"]],
    ["with a penalty", { repetitionPenalty: 1.2 }, ["sample"]],
  ])("hands over the token and nothing else: %s", async (_, options, kernels) => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    const draws = makeDraws(options);
    const step = () =>
      backend.sample(
        { state: cache, ids: [1], plan: planOf(backend.config, compose(), cache, 1), logitRows: 1 },
        draws([1, 2, 3]),
      );
    await step();
    mock.dispatched = [];
    mock.read = 0;
    const { passes, submits, buffers, bindGroups } = mock.log;
    const { logits } = await step();
    expect(mock.log).toMatchObject({ passes: passes + 1, submits: submits + 1, buffers, bindGroups });
    expect(mock.dispatched.slice(-kernels.length - 1).map((name) => name.split(" ")[0])).toEqual(["product", ...kernels]); // prettier-ignore
    expect(mock.read).toBe(4);
    expect(await logits()).toHaveLength(backend.config.vocabSize);
    await backend.dispose();
  });

  it.each([0, 3])(
    "draws from the logits of the last token, also where those of %i are asked for",
    async (logitRows) => {
      const mock = new MockGpu();
      const backend = await modelOn(mock);
      const cache = backend.createState({ capacity: 32, pinned: 32 });
      const step = async (rows: number) => {
        mock.dispatched = [];
        const plan = planOf(backend.config, compose(), cache, 3);
        await backend.sample({ state: cache, ids: [1, 2, 3], plan, logitRows: rows }, makeDraws({})([1, 2, 3]));
        return mock.dispatched;
      };
      const one = await step(1);
      expect(await step(logitRows)).toEqual(one);
      await backend.dispose();
    },
  );

  it("skips what nobody reads where no logits are asked for", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    await backend.forward({ state: cache, ids: [1], plan: planOf(backend.config, compose(), cache, 1), logitRows: 0 });
    expect(mock.dispatched.slice(-2).map((name) => name.split(" ")[0])).toEqual(["product", "rotate-and-store"]);
    await backend.dispose();
  });
});

describe("memory", () => {
  it("is given back: by caches, and all of it by the backend", async () => {
    const mock = new MockGpu();
    const backend = await modelOn(mock);
    const before = mock.bytes;
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    await readEach(backend, cache, [1]);
    const fork = cache.fork();
    expect(fork.bytes).toBe(cache.bytes);
    expect(backend.gpu.ledger.of("cache")).toBe(2 * cache.bytes);
    cache.dispose();
    fork.dispose();
    expect(backend.gpu.ledger.of("cache")).toBe(0);
    expect(mock.bytes).toBeGreaterThan(before); // the workspace stays
    await backend.dispose();
    expect(mock.bytes).toBe(0);
    expect(backend.gpu.ledger.total).toBe(0);
    expect(mock).toMatchObject({ deviceDestroyed: true, released: true });
  });

  it("grows with the text, by doubling", async () => {
    const backend = await modelOn(new MockGpu());
    const cache = backend.createState({ capacity: 4096, pinned: 4096 });
    const read = (count: number) =>
      backend.forward({
        state: cache,
        ids: tinyIds(count),
        plan: planOf(backend.config, compose(), cache, count),
        logitRows: 0,
      });
    await read(10);
    const first = cache.bytes;
    await read(256);
    expect(cache.bytes).toBe(2 * first);
    await read(2000);
    expect(cache.bytes).toBe(16 * first);
    await backend.dispose();
  });

  it("is refused where a head would not fit a binding", async () => {
    const backend = await modelOn(new MockGpu({ limits: { maxStorageBufferBindingSize: 2 ** 17 } }));
    expect(() => backend.createState({ capacity: 8192, pinned: 8192 })).toThrow(/binds 131072 at once/);
    await backend.dispose();
  });
});

describe("what goes wrong on the device", () => {
  const read = async (mock: MockGpu) => {
    const backend = await modelOn(mock);
    const cache = backend.createState({ capacity: 32, pinned: 32 });
    await readEach(backend, cache, [1]);
    return { backend, step: () => failure(() => readEach(backend, cache, [2])) };
  };

  it("is said: the device was lost", async () => {
    const mock = new MockGpu();
    const { backend, step } = await read(mock);
    mock.lose({ reason: "unknown", message: "The GPU\n  hung." });
    await Promise.resolve();
    const said = await step();
    expect(said).toMatch(
      /^device: The WebGPU device A mocked adapter was lost \(The GPU; hung\.\); .* of weights.* of cache.* are gone\./,
    );
    expect(await step()).toBe(said);
    await backend.dispose();
  });

  it("is said: out of memory, with what holds it", async () => {
    const mock = new MockGpu();
    const { backend, step } = await read(mock);
    mock.scopeErrors = [null, null, gpuError("GPUOutOfMemoryError", "no room")];
    expect(await step()).toMatch(/^device: A mocked adapter is out of memory with .* of weights.*\(no room\)/);
    expect(await step()).toMatch(/^device: The device failed while this state was written; prefill again/);
    await backend.dispose();
  });

  it("is said: validation, and what came outside of every scope", async () => {
    const mock = new MockGpu();
    const { backend, step } = await read(mock);
    mock.uncaptured!({ error: gpuError("GPUValidationError", "wrong usage") });
    expect(await step()).toMatch(/^device: A mocked adapter refused its work: wrong usage/);
    expect(await step()).toBe("");
    mock.scopeErrors = [gpuError("GPUValidationError", "wrong size")];
    expect(await step()).toMatch(/^device: A mocked adapter refused its work: wrong size/);
    await backend.dispose();
    expect(await step()).toMatch(/^argument: This model was disposed of/);
  });
});

describe("the adapter", () => {
  const opened = (options: MockOptions, hardwareOnly = false) =>
    failure(() => openGpu({ source: new MockGpu(options).source, hardwareOnly }));

  it("is any for who asks for webgpu, and hardware for who leaves the choice", async () => {
    expect(await opened({ description: "llvmpipe (LLVM 19)" })).toBe("");
    expect(await opened({ description: "SwiftShader Device" }, true)).toMatch(/^device: The only WebGPU adapter is SwiftShader Device, which computes on the processor/); // prettier-ignore
    expect(await opened({ description: "NVIDIA H200" }, true)).toBe("");
    expect(await opened({ none: true })).toMatch(/^device: There is no WebGPU adapter/);
  });

  it("is asked for all it has, and features only where they are there", async () => {
    const mock = new MockGpu({
      features: ["shader-f16", "bgra8unorm-storage"],
      limits: { maxStorageBufferBindingSize: 2 ** 32 },
    });
    const gpu = await openGpu({ source: mock.source });
    expect(mock.requested).toMatchObject({
      requiredFeatures: ["shader-f16"],
      requiredLimits: { maxStorageBufferBindingSize: 2 ** 32, maxStorageBuffersPerShaderStage: 8 },
    });
    expect(gpu.capabilities).toMatchObject({ f16: true, subgroups: null, timestamps: false, maxBinding: 2 ** 32 });
    gpu.destroy();
    const without = await openGpu({ source: mock.source, without: ["shader-f16"] });
    expect(without.capabilities.f16).toBe(false);
    without.destroy();
  });

  it.each(["subgroups", "shader-f16"])(
    "does without a feature that its driver does not compile: %s",
    async (broken) => {
      const features = ["shader-f16", "subgroups", "timestamp-query"];
      const mock = new MockGpu({ features, failing: [broken] });
      const gpu = await openGpu({ source: mock.source });
      expect(gpu.capabilities).toMatchObject({
        f16: broken !== "shader-f16",
        subgroups: broken === "subgroups" ? null : { smallest: 4, largest: 128 },
        timestamps: true,
      });
      expect(mock.log.pipelines).toBe(1); // the other's
      gpu.check();
      gpu.destroy();
    },
  );
});
