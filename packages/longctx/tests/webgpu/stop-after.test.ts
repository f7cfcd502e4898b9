import { afterAll, beforeAll, describe, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import {
  expectRefusals,
  expectSameAfterwards,
  expectSameSeen,
  FORGETTING_SPECS,
  STOPPED_SPECS,
} from "../expect-stopped.ts";
import { gpu, modelOnGpu } from "./model.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, layerCount: 3 });

/** The last layer of a pass counts attention masses too, since the next chunk chooses by them. */
const CHOOSING = [
  "knn:k=3,window=6",
  "blocks:size=2,top=2,local=3,sinks=1,exec=4,representative=salient,repr=1,share=none",
];

afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null)("a pass that stops after a layer on webgpu", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await modelOnGpu(config, tinyWeights(config));
  });

  it.each([...STOPPED_SPECS, ...CHOOSING])("shows what a whole pass shows of the layers up to it: %s", async (spec) => {
    await expectSameSeen(model, spec, 1e-5);
  });

  it.each(FORGETTING_SPECS)("leaves, once truncated, a session as if it had not been: %s", async (spec) => {
    await expectSameAfterwards(model, spec, 1e-4);
  });

  it("lets nobody read on before the session is truncated", () => expectRefusals(model));
});
