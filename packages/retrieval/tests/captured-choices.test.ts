import { expect, it } from "vitest";
import { attentionWeights, Capture, LanguageModel, stateless, type Method } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { largestDifference, tinyConfig, tinyIds, tinyWeights } from "../../core/tests/tiny-model.ts";
import { blocks, knn } from "../src/index.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, queryHeads: 6, keyHeads: 3, hiddenSize: 48 });
const model = new LanguageModel({
  backend: createReference(config, tinyWeights(config)),
  tokenizer: null,
  chatTemplate: null,
});
const ids = tinyIds(60);

it("captured attention shows what each head has chosen, and no other token", async () => {
  const capture = new Capture({ layers: [1], hidden: false, attention: true, rows: { from: 40, to: 60 } });
  await model.session({ method: knn({ k: 3, window: 8, sinks: 2 }) }).prefill(ids, { capture });
  const [{ weights, tokens, count, heads }] = capture.attention(1);
  const lists = heads.map((_, head) =>
    Array.from({ length: count }, (_row, row) => {
      const ofRow = weights.subarray((head * count + row) * tokens, (head * count + row + 1) * tokens);
      expect(ofRow.reduce((a, b) => a + b)).toBeCloseTo(1, 5);
      return [...ofRow.keys()].filter((token) => ofRow[token] > 0);
    }),
  );
  for (const head of lists)
    head.forEach((seen, row) => {
      expect(seen.filter((token) => token < 2)).toEqual([0, 1]);
      expect(seen.filter((token) => token > 32 + row)).toEqual(Array.from({ length: 8 }, (_, i) => 33 + row + i));
      expect(seen).toHaveLength(13);
    });
  expect(new Set(lists.map((head) => String(head.at(-1)))).size).toBeGreaterThan(1);
});

it.each<[string, Method]>([
  ["of each query head", knn({ k: 3, window: 8, positions: "true" })],
  ["of each key head", blocks({ size: 4, top: 2, local: 8, query: "token", share: "group", positions: "ordered" })],
  ["of a group", blocks({ size: 4, top: 2, local: 8, exec: 16, share: "none" })],
])("captured attention of choices %s is the definition's", async (_, method) => {
  const defined: Float32Array[] = [];
  const watch: Method = {
    spec: "watch",
    axes: [],
    hook: {
      layers: (layer) => layer === 1,
      create: () =>
        stateless({
          plan: (plan, view) => {
            defined.push(attentionWeights(plan, view, config));
            return plan;
          },
        }),
    },
  };
  const capture = new Capture({ layers: [1], hidden: false, attention: true });
  await model.session({ method: [method, watch], chunk: 60 }).prefill(ids, { capture });
  const captured = capture.attention(1).map(({ weights }) => weights);
  expect(captured).toHaveLength(defined.length);
  captured.forEach((weights, i) => expect(largestDifference(weights, defined[i])).toBeLessThan(1e-6));
});
