import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LongctxError, type LanguageModel, type Method, type ModelConfig, type PositionRule } from "@longctx/core";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { parseMethod } from "../../src/methods.ts";
import { difference, modelOf, tinyIds } from "../devices.ts";
import { gpu, modelOnGpu } from "./model.ts";

/** Mistakes that others made, each of which a whole model must not; packages/core/tests/webgpu has those of kernels. */
const ids = tinyIds(90);
afterAll(() => gpu?.destroy());

/** Three query heads share a key head, so nothing is a power of two; the second layer has a window of its own. */
const config = tinyConfig({
  maxPositions: 512,
  headSize: 8,
  queryHeads: 6,
  rope: { type: "default", base: 100, rotarySize: 8 },
  slidingWindows: [null, 5],
});

async function pairOf(changed: ModelConfig): Promise<[LanguageModel, LanguageModel]> {
  const weights = tinyWeights(changed);
  return [modelOf("reference", changed, weights), await modelOnGpu(changed, weights)];
}

describe.skipIf(gpu === null)("a model on webgpu", () => {
  let models: [LanguageModel, LanguageModel];
  beforeAll(async () => {
    models = await pairOf(config);
  });

  /** Logits of all tokens: the first ones in one call and chunks of 16, the others one by one. */
  const read = async (model: LanguageModel, method: Method | readonly Method[], together: number, count: number) => {
    const session = model.session({ method, chunk: 16, capacity: 96 });
    const logits = [await session.prefill(ids.slice(0, together), { logitRows: together, length: count })];
    for (const id of ids.slice(together, count)) logits.push(await session.prefill([id]));
    session.dispose();
    return Float32Array.from(logits.flatMap((rows) => [...rows]));
  };

  it("keeps a layer's window token by token", async () => {
    const [expected, computed] = await Promise.all(models.map((model) => read(model, [], 7, 40)));
    expect(difference(computed, expected)).toBeLessThan(1e-4);
    const everywhere = await pairOf({ ...config, slidingWindows: [null, null] });
    expect(difference(await read(everywhere[1], [], 7, 40), computed)).toBeGreaterThan(0.05);
    await everywhere[1].dispose();
  });

  it("evicts nothing for what a short last chunk leaves unused", async () => {
    // The buffers of a chunk of 16 are there when the ones of 9 and of 1 are read.
    for (const together of [16 + 9, 3 * 16 + 1]) {
      const method = parseMethod("streaming:sinks=2,window=9");
      const [expected, computed] = await Promise.all(models.map((model) => read(model, method, together, 70)));
      expect(difference(computed, expected)).toBeLessThan(1e-4);
    }
  });

  it("computes at position 100,000 what it computes at 0", async () => {
    const far = 100_000;
    const shifted: PositionRule = { id: `m+${far}`, at: (m) => m + far };
    const method: Method = {
      spec: "shifted",
      axes: ["distance"],
      segments: (segments) => segments.map((segment) => ({ ...segment, queryPosition: shifted, keyPosition: shifted })),
    };
    const near = await read(models[1], [], 30, 40);
    expect(difference(await read(models[1], [method], 30, 40), near)).toBeLessThan(1e-4);
  });

  it("refuses a prompt that is longer than its cache before anything is read, and goes on", async () => {
    const session = models[1].session({ capacity: 20, chunk: 16 });
    await expect(session.prefill(ids.slice(0, 21))).rejects.toThrow(/has 21 tokens, but the cache holds 20/);
    const expected = await models[0].session({ capacity: 20 }).prefill(ids.slice(0, 20), { logitRows: 20 });
    expect(difference(await session.prefill(ids.slice(0, 20), { logitRows: 20 }), expected)).toBeLessThan(1e-4);
    await expect(session.prefill([1])).rejects.toThrow(LongctxError);
    const generation = session.generate({ maxNew: 5, stopTokens: [] });
    await generation.complete();
    expect(generation.reason).toBe("capacity");
    session.dispose();
  });
});
