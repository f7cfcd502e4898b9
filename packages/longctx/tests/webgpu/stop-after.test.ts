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

afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null)("a pass that stops after a layer on webgpu", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await modelOnGpu(config, tinyWeights(config));
  });

  it.each(STOPPED_SPECS)("shows what a whole pass shows of the layers up to it: %s", async (spec) => {
    await expectSameSeen(model, spec, 1e-5);
  });

  it.each(FORGETTING_SPECS)("leaves, once truncated, a session as if it had not been: %s", async (spec) => {
    await expectSameAfterwards(model, spec, 1e-4);
  });

  it("lets nobody read on before the session is truncated", () => expectRefusals(model));
});
