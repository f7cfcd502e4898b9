import { afterAll, describe, expect, it } from "vitest";
import { LanguageModel, type ModelConfig } from "@longctx/core";
import { createWebGpu, type WebGpuBackend, type WebGpuOptions } from "@longctx/core/webgpu";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { MockGpu } from "../../../core/tests/webgpu/mock-gpu.ts";
import { parseMethod } from "../../src/methods.ts";
import { tinyIds } from "../devices.ts";
import { gpu } from "./model.ts";

afterAll(() => gpu?.destroy());

const config: ModelConfig = tinyConfig({
  maxPositions: 8192,
  headSize: 8,
  queryHeads: 6,
  rope: { type: "default", base: 100, rotarySize: 8 },
});

interface Loaded {
  readonly model: LanguageModel;
  readonly backend: WebGpuBackend;
}

async function loadOn(options: WebGpuOptions): Promise<Loaded> {
  const backend = await createWebGpu(config, tinyWeights(config), options);
  return { backend, model: new LanguageModel({ backend, tokenizer: null, chatTemplate: null }) };
}

/** Scratch after a text read in chunks, and after some single tokens. */
async function scratchOf({ model, backend }: Loaded, spec: string, length: number, chunk: number): Promise<number> {
  const session = model.session({ method: parseMethod(spec), chunk, capacity: length + 8 });
  await session.prefill(tinyIds(length));
  for (const id of tinyIds(4)) await session.prefill([id]);
  session.dispose();
  return backend.memory().scratch;
}

describe("bytes on the device", () => {
  it("are told by purpose, and none is forgotten", async () => {
    const mock = new MockGpu();
    const loaded = await loadOn({ source: mock.source });
    const { backend, model } = loaded;
    const { weights, cache } = backend.memory();
    const tensors = tinyWeights(config);
    const shapes = [...tensors.names()].map((name) => tensors.find(name)!.shape);
    const stored = 4 * shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0);
    expect(weights).toBeGreaterThanOrEqual(stored);
    // Rows of 24 channels are kept as whole blocks of 32.
    expect(weights).toBeLessThan((32 / 24) * stored);
    expect(cache).toBe(0);
    const session = model.session({ capacity: 512, chunk: 32 });
    await session.prefill(tinyIds(300));
    const memory = backend.memory();
    // 512 slots of 2 key heads of 8 channels, keys and values, 2 layers, float32.
    expect(memory.cache).toBeGreaterThanOrEqual(512 * 2 * 8 * 2 * 2 * 4);
    expect(memory.weights + memory.cache + memory.scratch).toBe(mock.bytes);
    expect(memory.peak).toBeGreaterThanOrEqual(mock.bytes);
    session.dispose();
    expect(backend.memory()).toMatchObject({ weights, cache: 0, scratch: memory.scratch });
    await model.dispose();
    expect(backend.memory()).toMatchObject({ weights: 0, cache: 0, scratch: 0 });
    expect(mock.bytes).toBe(0);
  });

  it.each(["none", "rerope:window=7", "yarn:factor=4+streaming:sinks=2,window=50", "self-extend:group=4,window=16"])(
    "for a chunk do not grow with the text: %s",
    async (spec) => {
      const loaded = await loadOn({ source: new MockGpu().source });
      // From 2,000 keys on a single token has its 64 pieces, up to 16,384.
      const short = await scratchOf(loaded, spec, 2000, 32);
      expect(await scratchOf(loaded, spec, 8000, 32)).toBe(short);
      await loaded.model.dispose();
    },
  );

  it("for a chunk grow with its size, and not with queries × keys", async () => {
    const read = async (length: number, chunk: number) => {
      const loaded = await loadOn({ source: new MockGpu().source });
      await loaded.model.session({ chunk, capacity: length }).prefill(tinyIds(length));
      const { scratch } = loaded.backend.memory();
      await loaded.model.dispose();
      return scratch;
    };
    // Pages of tables are of a fixed size, and buffers double.
    expect(await read(4096, 1024)).toBeLessThan(2 * 4 * (await read(1024, 256)));
    expect(await read(8192, 256)).toBe(await read(1024, 256));
  });

  it("for a table that changes with the length are a few percent of the keys that it turns, however many the layers", async () => {
    const loaded = await loadOn({ source: new MockGpu().source });
    const before = await scratchOf(loaded, "dynamic-ntk:factor=2", 128, 32);
    const after = await scratchOf(loaded, "dynamic-ntk:factor=2", 8000, 32);
    const page = 2 ** 20;
    expect(after - before).toBeLessThanOrEqual(page + 8000 * (4 * 8 + 4));
    await loaded.model.dispose();
  });
});

/** Generations under methods that keep different copies of the keys, all given back; what is held after every hundred. */
async function generations({ model, backend }: Loaded, times: number): Promise<object[]> {
  const specs = ["none", "rerope:window=7", "yarn:factor=4+streaming:sinks=2,window=9"].map(parseMethod);
  const [once, held] = [tinyIds(11), [] as object[]];
  for (let i = 0; i < times; i++) {
    const session = model.session({ method: specs[i % specs.length], chunk: 8, capacity: 16 });
    const sampling = i % 2 === 0 ? {} : { temperature: 1, seed: i };
    const generation = session.generate({ prompt: once, maxNew: 2, stopTokens: [], ...sampling });
    await generation.complete();
    expect(generation.ids).toHaveLength(2);
    if (i % 5 === 0) session.fork().dispose();
    session.dispose();
    if ((i + 1) % (times / 10) === 0) held.push({ ...backend.memory(), ...backend.gpu.held });
  }
  return held;
}

describe("a thousand generations", () => {
  it("leave nothing on a mocked device", async () => {
    const mock = new MockGpu();
    const loaded = await loadOn({ source: mock.source });
    await generations(loaded, 60); // warm-up: all methods, greedy and drawn, with forks
    const before = { bytes: mock.bytes, alive: mock.log.buffers - mock.log.destroyed, pipelines: mock.log.pipelines };
    const held = await generations(loaded, 1000);
    for (const now of held) expect(now).toEqual(held[0]);
    expect({
      bytes: mock.bytes,
      alive: mock.log.buffers - mock.log.destroyed,
      pipelines: mock.log.pipelines,
    }).toEqual(before);
    await loaded.model.dispose();
  });

  it.skipIf(gpu === null)(
    "leave nothing on the adapter of this machine, a quarter of them where it is its processor",
    async () => {
      const loaded = await loadOn({ device: gpu! });
      await generations(loaded, 30);
      const held = await generations(loaded, gpu!.capabilities.software ? 250 : 1000);
      for (const now of held) expect(now).toEqual(held[0]);
      const { buffers } = gpu!.held;
      await loaded.model.dispose();
      expect(gpu!.held.buffers).toBeLessThan(buffers);
      expect(gpu!.ledger.of("weights")).toBe(0);
      expect(gpu!.ledger.of("cache")).toBe(0);
    },
  );
});
