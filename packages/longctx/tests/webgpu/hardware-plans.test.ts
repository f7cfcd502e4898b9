import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { LanguageModel, type ModelConfig, type Weights } from "@longctx/core";
import { createWebGpu } from "@longctx/core/webgpu";
import { gpuAsHardware } from "../../../core/tests/webgpu/device.ts";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import type { Gpu } from "../../../core/src/webgpu/device/gpu.ts";
import { deviationOf } from "../../src/deviation.ts";
import { parseMethod } from "../../src/methods.ts";
import { single, TRAINED_WINDOW } from "../definitions/cases.ts";
import { difference, judgeOf, read } from "../definitions/judge.ts";
import { modelOf, tinyIds } from "../devices.ts";
import { readGolden } from "../read-golden.ts";
import { gpu, TOLERANCE } from "./model.ts";

/**
 * Whole models on the kernels and tilings of hardware GPUs, on any adapter: a processor's own are others (one invocation
 * a row, broadcasts), so the other files here, run on a processor, never reach these.
 */
const WAYS = [
  { title: "with subgroups", without: [] },
  { title: "without subgroups", without: ["subgroups"] },
] as const;
/** How far logits may be, as a share, when keys, values and products of many tokens have 16 bits. */
const NEAR = { largest: 1.5e-2, rms: 6e-3 };
const METHODS = single.filter(({ spec }) => ["rerope:window=12", "streaming:sinks=3,window=11"].includes(spec));

const judge = await judgeOf("llama");
afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null).each(WAYS)("as on hardware, $title", ({ without }) => {
  let device: Gpu;
  const used = new Set<string>();
  beforeAll(async () => {
    device = await gpuAsHardware(without);
    const prepare = device.pipelines.prepare.bind(device.pipelines);
    vi.spyOn(device.pipelines, "prepare").mockImplementation((kernels) => {
      const all = [...kernels];
      for (const { name } of all) used.add(name);
      return prepare(all);
    });
  });
  afterAll(() => device?.destroy());

  const modelOn = async (config: ModelConfig, weights: Weights, trainedWindow?: number) => {
    const backend = await createWebGpu(config, weights, { device });
    return new LanguageModel({ backend, tokenizer: null, chatTemplate: null, trainedWindow });
  };

  it("llama is what transformers computes, and continues with the same tokens", async () => {
    const { config, weights, cases, prompt, greedy } = await readGolden("llama");
    const model = await modelOn(config, weights);
    for (const [{ ids, logits }, chunk] of [
      [cases[0], 48],
      [cases[0], 7],
      [cases[0], 1],
      [cases[1], 64],
    ] as const) {
      const session = model.session({ capacity: 256, chunk });
      const computed = await session.prefill(ids, { logitRows: ids.length });
      expect(difference(computed, logits), `${ids.length} tokens in chunks of ${chunk}`).toBeLessThan(TOLERANCE);
      session.dispose();
    }
    const generation = model.session({ capacity: 256 }).generate({ prompt, maxNew: greedy.length, stopTokens: [] });
    await generation.complete();
    expect(generation.ids).toEqual(greedy);
    await model.dispose();
  });

  it.each(METHODS)("$spec is its definition", async (method) => {
    const { config, weights } = await readGolden("llama");
    const model = await modelOn(config, weights, TRAINED_WINDOW);
    for (const together of [48, 29, 0]) {
      const prompt = together || 48;
      const computed = await read(model, parseMethod(method.spec), judge.ids(48), { chunk: 16, together, prompt });
      expect(difference(computed, judge.logits(method, 48, prompt)), `${together} together`).toBeLessThan(TOLERANCE);
    }
    await model.dispose();
  });

  it.each([
    "infini:segment=16,update=delta,beta=0.3",
    "blocks:size=8,top=3,local=16,sinks=2,exec=64,positions=ordered",
    "blocks:size=8,top=3,local=16,sinks=2,exec=64,positions=ordered,representative=salient,share=group",
    "knn:k=5,window=16,merge=gate,gate=0.5,scale=6",
    "oracle:k=9",
  ])("%s is what the reference computes", async (spec) => {
    const { config, weights } = await readGolden("llama");
    const ids = Array.from({ length: 160 }, (_, i) => (i * 7919) % config.vocabSize);
    const logitsOf = async (model: LanguageModel) => {
      const session = model.session({ method: parseMethod(spec), capacity: 256, chunk: 64 });
      const logits = [...(await session.prefill(ids.slice(0, 150), { logitRows: 150 }))];
      for (const id of ids.slice(150)) logits.push(...(await session.prefill([id])));
      session.dispose();
      return logits;
    };
    const expected = await logitsOf(modelOf("reference", config, weights));
    const model = await modelOn(config, weights);
    expect(difference(await logitsOf(model), expected)).toBeLessThan(TOLERANCE);
    await model.dispose();
  });

  it("a model whose three query heads share a key head, with a window", async () => {
    // Sizes of golden/llama otherwise, so that most of its kernels serve again.
    const config = tinyConfig({
      hiddenSize: 64,
      maxPositions: 512,
      headSize: 16,
      queryHeads: 6,
      rope: { type: "default", base: 100, rotarySize: 16 },
      slidingWindows: [null, 5],
    });
    const weights = tinyWeights(config);
    const ids = tinyIds(40);
    const logitsOf = async (model: LanguageModel, chunk: number) => {
      const session = model.session({ capacity: 64, chunk });
      return session.prefill(ids, { logitRows: ids.length });
    };
    const expected = await logitsOf(modelOf("reference", config, weights), 40);
    const model = await modelOn(config, weights);
    for (const chunk of [40, 7, 1])
      expect(difference(await logitsOf(model, chunk), expected), `chunks of ${chunk}`).toBeLessThan(1e-4);
    await model.dispose();
  });

  const halves = gpu?.capabilities.f16 && without.length === 0;
  it.skipIf(!halves)("llama is near what transformers computes when it is fast, in products of halves", async () => {
    const { config, weights, cases } = await readGolden("llama");
    expect([...used].filter((name) => name.endsWith("half"))).toEqual([]); // the exact models before had none
    const backend = await createWebGpu(config, weights, { device, precision: "fast" });
    const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
    for (const [{ ids, logits }, chunk] of [
      [cases[0], 48],
      [cases[0], 13], // the last chunk has 9 of a tile's 16 rows
      [cases[1], 64],
    ] as const) {
      const session = model.session({ capacity: 256, chunk });
      const computed = await session.prefill(ids, { logitRows: ids.length });
      const { largest, rms } = deviationOf(computed, logits);
      expect(largest, `${ids.length} tokens in chunks of ${chunk}`).toBeLessThan(NEAR.largest);
      expect(rms).toBeLessThan(NEAR.rms);
      session.dispose();
    }
    await model.dispose();
    const products = [...used].filter((name) => /^product .* tiles .* half$/.test(name));
    expect(products.length).toBeGreaterThanOrEqual(3);
  });

  it("ran the kernels of hardware and no others", () => {
    const made = [...used];
    expect(made.filter((name) => name.includes("broadcast"))).toEqual([]);
    expect(made.some((name) => name.startsWith("attention-tiled"))).toBe(true);
    expect(made.some((name) => / rows (32|16|8) /.test(name))).toBe(true);
    const subgroups = without.length === 0 && gpu!.capabilities.subgroups !== null;
    expect(made.some((name) => name.includes("subgroups"))).toBe(subgroups);
  });
});
