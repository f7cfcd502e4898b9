import { describe, expect, it } from "vitest";
import { Capture, LanguageModel, type Method } from "@longctx/core";
import { infini } from "../../../../infini/src/index.ts";
import { blocks, knn } from "../../../../retrieval/src/index.ts";
import { createWebGpu } from "../../../src/webgpu/index.ts";
import { bestTokens, meanMemory } from "../../example-methods.ts";
import { tinyConfig, tinyIds, tinyWeights } from "../../tiny-model.ts";
import { MockGpu } from "../mock-gpu.ts";

const config = tinyConfig({ layerCount: 4, headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } });

interface Watched {
  readonly method?: Method;
  readonly captured?: ConstructorParameters<typeof Capture>[0];
}

const CHOOSING = blocks({ size: 2, top: 2, local: 3, sinks: 1 });
const SALIENT = blocks({ size: 2, top: 2, local: 3, sinks: 1, share: "group", representative: "salient" });

/** How often a single token is waited for. */
async function stopsOf({ method, captured }: Watched): Promise<number> {
  const mock = new MockGpu();
  const backend = await createWebGpu(config, tinyWeights(config), { source: mock.source });
  const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
  const session = model.session({ method, capacity: 32 });
  const read = (ids: readonly number[]) => session.prefill(ids, { capture: captured && new Capture(captured) });
  await read(tinyIds(9));
  const { submits } = mock.log;
  await read([1]);
  const stops = mock.log.submits - submits;
  await model.dispose();
  return stops;
}

describe("a token is waited for at its end, and where somebody looks", () => {
  it.each<[string, number, Watched]>([
    ["nobody", 1, {}],
    ["a capture of hidden states before two layers", 3, { captured: { layers: [1, 3] } }],
    ["a capture of one layer's attention", 2, { captured: { layers: [2], hidden: false, attention: true } }],
    ["a retrieval at one layer", 2, { method: bestTokens(4, config) }],
    ["a memory of one layer, which changes what was attended", 3, { method: meanMemory }],
    ["nobody, under a compressive memory", 1, { method: infini({ segment: 4, beta: 0, update: "delta" }) }],
    ["nobody, under blocks that the device chooses", 1, { method: CHOOSING }],
    ["nobody, under tokens that each head chooses", 1, { method: knn({ k: 2, window: 3 }) }],
    ["nobody, under salient blocks of each key head", 1, { method: SALIENT }],
    ["a capture of one layer's attention, under such blocks of each key head", 3, { method: SALIENT, captured: { layers: [2], hidden: false, attention: true } }], // prettier-ignore
    ["a capture of one layer's attention, under blocks that the device chooses", 3, { method: CHOOSING, captured: { layers: [2], hidden: false, attention: true } }], // prettier-ignore
  ])("%s: %i times", async (_, times, watched) => {
    expect(await stopsOf(watched)).toBe(times);
  });
});
