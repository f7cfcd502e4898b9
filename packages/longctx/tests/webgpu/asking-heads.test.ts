import { afterAll, describe, expect, it } from "vitest";
import { LongctxError } from "@longctx/core";
import { blocks, HEADS_FORMAT } from "../../src/index.ts";
import { distinctText, randomModel } from "../definitions/judged-models.ts";
import { gpu, modelOnGpu } from "./model.ts";

afterAll(() => gpu?.destroy());

const judged = randomModel("3 key heads of 6", { vocabSize: 256 });
const { config, weights } = judged;

describe.skipIf(!gpu)("a choice that some heads make for all", () => {
  it("is refused by name, and leaves the session as it was", async () => {
    const model = await modelOnGpu(config, weights);
    const { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize } = config;
    const shape = { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize };
    const content = { format: HEADS_FORMAT, model: { name: "random", ...shape }, best: [[1, 4]], heads: [] };
    const method = blocks({ size: 8, top: 2, local: 16, sinks: 2, exec: 16, heads: { path: "heads.json", content } });
    const session = model.session({ method });
    const error = await session.prefill(distinctText(judged, 80, 3)).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as LongctxError).message).toMatch(/is made by some heads for all, which webgpu does not compute/);
    expect(session.length % 16).toBe(0);
    await model.dispose();
  });
});
