import { afterAll, describe, expect, it } from "vitest";
import { difference } from "../devices.ts";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { modelOf } from "../devices.ts";
import { readInParts, unlike } from "../layer-rings.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

describe.skipIf(!gpu)("rings of unlike layers on webgpu", () => {
  it.each([1, 7])("give what equal rings give, in chunks of %d", async (chunk) => {
    const config = tinyConfig({ maxPositions: 512, headSize: 8 });
    const weights = tinyWeights(config);
    const model = await modelOnGpu(config, weights);
    const expected = await readInParts(modelOf("reference", config, weights), unlike(false), chunk);
    const computed = await readInParts(model, unlike(true), chunk);
    computed.forEach((logits, i) => expect(difference(logits, expected[i])).toBeLessThan(TOLERANCE));
    await model.dispose();
  });
});
