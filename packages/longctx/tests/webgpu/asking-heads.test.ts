import { afterAll, describe, expect, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import { blocks, HEADS_FORMAT } from "../../src/index.ts";
import { difference } from "../definitions/judge.ts";
import { distinctText, randomModel } from "../definitions/judged-models.ts";
import { modelOf } from "../devices.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

const judged = randomModel("3 key heads of 6", { vocabSize: 256 });
const { config, weights } = judged;
const ids = distinctText(judged, 120, 3);
const { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize } = config;
const shape = { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize };

const FORMS = [
  { query: "chunk", positions: "constant", representative: "mean", size: 8 },
  { query: "chunk", positions: "ordered", representative: "salient", size: 8 },
  { query: "token", positions: "ordered", representative: "bounds", size: 8 },
  { query: "token", positions: "constant", representative: "mean", size: 1 },
] as const;

describe.skipIf(!gpu)("webgpu: a choice that some heads make for all", () => {
  it.each(FORMS)("$query, $positions, $representative, blocks of $size", async (form) => {
    const best = [[1, 0], [1, 3], [1, 4]]; // prettier-ignore
    const content = { format: HEADS_FORMAT, model: { name: "random", ...shape }, best, heads: [] };
    const method = blocks({ top: 2, local: 16, sinks: 2, exec: 16, repr: 2, ...form, heads: { path: "heads.json", content } }); // prettier-ignore
    const read = async (model: LanguageModel) => {
      const session = model.session({ method, chunk: 48, capacity: 128 });
      const parts = [await session.prefill(ids.slice(0, 112), { logitRows: 112 })];
      for (const id of ids.slice(112)) parts.push(await session.prefill([id]));
      session.dispose();
      return Float32Array.from(parts.flatMap((part) => [...part]));
    };
    const model = await modelOnGpu(config, weights);
    expect(difference(await read(model), await read(modelOf("reference", config, weights)))).toBeLessThan(TOLERANCE);
    await model.dispose();
  });
});
