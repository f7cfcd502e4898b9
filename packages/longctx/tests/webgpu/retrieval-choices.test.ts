import { afterAll, describe, expect, it } from "vitest";
import { LanguageModel, type ModelConfig } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyIds, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { parseMethod } from "../../src/methods.ts";
import { difference } from "../definitions/judge.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

const SHAPES: Readonly<Record<string, Partial<ModelConfig>>> = {
  "3 key heads of 6": { headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } },
  "heads of 6, amplitude, a part rotated": {
    headSize: 6,
    rope: { type: "yarn", base: 100, rotarySize: 4, factor: 4, originalMaxPositions: 16 },
  },
};

const models = await Promise.all(
  Object.entries(SHAPES).map(async ([name, shape]) => {
    const config = tinyConfig({ maxPositions: 512, queryHeads: 6, keyHeads: 3, hiddenSize: 48, ...shape });
    const weights = tinyWeights(config, 3);
    const reference = new LanguageModel({ backend: createReference(config, weights), weights, tokenizer: null, chatTemplate: null }); // prettier-ignore
    return { name, reference, computing: gpu && (await modelOnGpu(config, weights)) };
  }),
);

const SPECS = [
  "knn:k=3,window=10,sinks=2",
  "knn:k=3,window=10,positions=true",
  "knn:k=5,window=7,positions=none,layers=1",
  "knn:k=3,window=10,merge=gate,gate=0.5,scale=4",
  "knn:k=3,window=10,merge=gate,keys=raw,gate=0.5",
  "oracle:k=5",
  "oracle:k=4,window=6,sinks=2",
  ...["heads", "group", "none"].flatMap((share) =>
    ["mean", "bounds", "salient"].flatMap((representative) =>
      ["constant", "ordered"].flatMap((positions) =>
        ["chunk", "token"].map(
          (query) =>
            `blocks:size=8,top=2,local=16,sinks=2,exec=16,repr=2,share=${share},representative=${representative},positions=${positions},query=${query}`,
        ),
      ),
    ),
  ),
  "blocks:size=1,top=9,local=9,sinks=2,query=token,positions=ordered",
  "blocks:size=1,top=9,local=9,sinks=2,query=token,share=none",
];

const ids = tinyIds(110, 3);

describe.skipIf(!gpu).each(models)("webgpu: retrieval in $name", ({ reference, computing }) => {
  it.each(SPECS)("%s", async (spec) => {
    const read = async (model: LanguageModel, chunk: number) => {
      const session = model.session({ method: parseMethod(spec), capacity: 256, chunk });
      const logits = [await session.prefill(ids.slice(0, 90), { logitRows: 90 })];
      for (const id of ids.slice(90, 96)) logits.push(await session.prefill([id]));
      session.dispose();
      return logits;
    };
    const expected = await read(reference, 64);
    for (const chunk of [64, 7]) {
      const computed = await read(computing!, chunk);
      computed.forEach((logits, i) => expect(difference(logits, expected[i])).toBeLessThan(TOLERANCE));
    }
  });
});
