import { describe, expect, it } from "vitest";
import { compose, LanguageModel, makeDraws, type ModelConfig, type SamplingOptions } from "@longctx/core";
import { createWebGpu, openGpu } from "../../../src/webgpu/index.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { MockGpu } from "../mock-gpu.ts";
import { planOf } from "../plan-of.ts";

const ROPE = { type: "default", base: 100, rotarySize: 8 } as const;
const MODELS: readonly [string, Partial<ModelConfig>][] = [
  ["a small one", {}],
  // Its products have tiles of all heights: a row of workgroups is 40 high.
  ["one of wide layers", { feedForwardSize: 1280, hiddenSize: 64 }],
  ["experts", { experts: { count: 4, perToken: 2, feedForwardSize: 32, renormalise: true } }],
];
const DRAWS: readonly SamplingOptions[] = [{}, { temperature: 1, topK: 5 }, { repetitionPenalty: 1.1 }];

describe("pipelines", () => {
  it.each(MODELS)("are all there before a generation, whatever its chunks: %s", async (_, changes) => {
    const mock = new MockGpu({ features: ["shader-f16", "subgroups"] });
    const config = tinyConfig({ headSize: 8, rope: ROPE, maxPositions: 2048, ...changes });
    const backend = await createWebGpu(config, tinyWeights(config), { source: mock.source, precision: "fast" });
    const { pipelines } = mock.log;
    expect(pipelines).toBeGreaterThan(10);
    const cache = backend.createState({ capacity: 2048, pinned: 2048 });
    for (const [i, count] of [512, 1, 300, 2, 3, 5, 8, 9, 17, 33, 65, 100, 129, 257].entries()) {
      const draw = makeDraws(DRAWS[i % DRAWS.length])([1, 2, 3]);
      const plan = planOf(config, compose(), cache, count);
      await backend.sample({ state: cache, ids: tinyIds(count), plan, logitRows: 1 }, draw);
    }
    expect(mock.log.pipelines).toBe(pipelines);
    await backend.dispose();
  });

  it("are few where a processor compiles them for seconds, and the rest is made when it is needed", async () => {
    const counts = await Promise.all(
      ["A GPU", "llvmpipe (LLVM 19)"].map(async (description) => {
        const mock = new MockGpu({ description });
        const config = tinyConfig({ headSize: 8, rope: ROPE });
        const backend = await createWebGpu(config, tinyWeights(config), { source: mock.source });
        const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
        const { pipelines } = mock.log;
        await model
          .session({ capacity: 64 })
          .generate({ prompt: tinyIds(20), maxNew: 2, stopTokens: [] })
          .complete();
        await model.dispose();
        return { ahead: pipelines, later: mock.log.pipelines - pipelines };
      }),
    );
    expect(counts[0].later).toBe(0);
    expect(counts[1].ahead).toBeLessThan(counts[0].ahead);
  });
});

describe("a software adapter", () => {
  it.each([
    ["llvmpipe (LLVM 19.1.7, 256 bits)", true],
    ["SwiftShader Device (Subzero)", true],
    ["Microsoft Basic Render Driver", true],
    ["Generic Software Rasterizer", true],
    ["NVIDIA GeForce RTX 4090 (Game Ready, NVIDIA Software 555.85)", false],
    ["Intel(R) Arc(TM) Graphics, Intel Graphics Software", false],
    ["AMD Radeon, Adrenalin Software Edition", false],
    ["Apple M2", false],
  ])("is known by the name of its renderer: %s", async (description, software) => {
    const gpu = await openGpu({ source: new MockGpu({ description }).source });
    expect(gpu.capabilities.software).toBe(software);
    gpu.destroy();
  });

  it.each(["adapter", "info"] as const)("says so itself, in its %s", async (fallback) => {
    const gpu = await openGpu({ source: new MockGpu({ fallback }).source });
    expect(gpu.capabilities.software).toBe(true);
    gpu.destroy();
  });
});
