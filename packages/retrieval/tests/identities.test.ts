import { describe, expect, it } from "vitest";
import { constantPosition, LanguageModel, within, type Method } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { largestDifference, tinyConfig, tinyIds, tinyWeights } from "../../core/tests/tiny-model.ts";
import { blocks, knn, oracle, oracleBlock, randomBlocks } from "../src/index.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, queryHeads: 6, keyHeads: 3, hiddenSize: 48 });
const model = new LanguageModel({
  backend: createReference(config, tinyWeights(config)),
  tokenizer: null,
  chatTemplate: null,
});
const ids = tinyIds(100);
const read = (method: Method | readonly Method[], chunk = 100) =>
  model.session({ method, chunk }).prefill(ids, { logitRows: ids.length });
const plain = await read([]);
const expectPlain = async (method: Method, chunk = 100) =>
  expect(largestDifference(await read(method, chunk), plain)).toBeLessThan(1e-6);
const place = { size: 8, local: 16, sinks: 2 };

describe("what makes retrieval full attention", () => {
  it("knn with k above all stored, at true positions", () =>
    expectPlain(knn({ k: 100, window: 8, positions: "true" }), 7));
  it("the oracle with k above the text", () => expectPlain(oracle({ k: 100 }), 33));
  it.each(["heads", "group", "none"] as const)("ordered blocks of each query, share=%s", (share) =>
    expectPlain(blocks({ ...place, top: 99, positions: "ordered", query: "token", share }), 40),
  );
  it.each(["salient", "bounds"] as const)("ordered blocks by %s keys", (representative) =>
    expectPlain(blocks({ ...place, exec: 16, top: 99, positions: "ordered", representative, repr: 2 })),
  );
  it("all blocks at random, in order", () =>
    expectPlain(randomBlocks({ ...place, exec: 16, top: 99, positions: "ordered" })));
  it("all blocks of a place that is the text, in order", () =>
    expectPlain(oracleBlock({ ...place, exec: 16, from: 0, to: 100, positions: "ordered" })));
});

it("knn without tokens is LM-Infinite", async () => {
  const far = { queryPosition: constantPosition(12), keyPosition: constantPosition(0), tokens: { from: 0, to: 3 } };
  const lmInfinite: Method = {
    spec: "LM-Infinite",
    axes: ["visibility", "distance"],
    segments: ([segment]) => [
      within(segment, { from: 0, to: 12 })!,
      within({ ...segment, ...far }, { from: 12, to: Infinity })!,
    ],
  };
  const [a, b] = await Promise.all([read(knn({ k: 0, window: 12, sinks: 3 }), 9), read(lmInfinite, 9)]);
  expect(largestDifference(a, b)).toBe(0);
});

it("the oracle of a layer is what knn at true positions finds there, and keeps no more than it", async () => {
  const kept = { k: 3, window: 10, sinks: 2, layers: [1] };
  const method = knn({ ...kept, positions: "true" });
  expect(largestDifference(await read(oracle(kept), 7), await read(method, 7))).toBeLessThan(1e-6);
  const session = model.session({ method, chunk: 8 });
  await session.prefill(ids.slice(0, 60));
  const control = session.fork({ method: oracle(kept) });
  expect(largestDifference(await control.prefill(ids.slice(60)), await session.prefill(ids.slice(60)))).toBeLessThan(
    1e-6,
  );
  expect(() => session.fork({ method: oracle({ k: 3, window: 10, sinks: 2 }) })).toThrow(/needs the whole text/);
});

it.each<[string, Method]>([
  ["knn", knn({ k: 3, window: 10 })],
  ["knn in a layer", knn({ k: 3, window: 10, layers: [1], positions: "none" })],
  ["a gate", knn({ k: 3, window: 10, merge: "gate", gate: 0.5, scale: 4 })],
  ["oracle", oracle({ k: 5 })],
  ["oracle in a layer", oracle({ k: 3, window: 10, sinks: 2, layers: [1] })],
  ["each token", blocks({ ...place, top: 2, query: "token", share: "group" })],
  ["each token, in order", blocks({ ...place, top: 2, query: "token", positions: "ordered" })],
  ["salient", blocks({ ...place, top: 2, exec: 16, representative: "salient", repr: 2, share: "none" })],
  ["bounds", blocks({ ...place, top: 2, exec: 16, representative: "bounds" })],
])("%s does not depend on the chunk, and is not the plain model", async (_, method) => {
  const whole = await read(method);
  for (const chunk of [1, 7, 64]) {
    expect(largestDifference(await read(method, chunk), whole)).toBeLessThan(1e-6);
  }
  expect(largestDifference(whole, plain)).toBeGreaterThan(1e-3);
});

it("refuses to forget a part of the attention masses", async () => {
  const method = blocks({ ...place, top: 2, exec: 16, representative: "salient" });
  const session = model.session({ method });
  await session.prefill(ids.slice(0, 50));
  expect(() => session.truncate(40)).toThrow(/attention mass/);
  session.truncate(0);
  const whole = await session.prefill(ids, { logitRows: 100 });
  expect(largestDifference(whole, await read(method))).toBe(0);
  const restored = model.restoreSession(await session.save(), { method });
  expect(largestDifference(await restored.prefill([1, 2, 3]), await session.fork().prefill([1, 2, 3]))).toBe(0);
});

it.each<[RegExp, () => Method]>([
  [/another scale/, () => knn({ window: 10, keys: "normalized" })],
  [/numbers of layers/, () => knn({ window: 10, layers: [3, 1] })],
  [/above from/, () => oracleBlock({ ...place, from: 7, to: 7 })],
])("refuses %s", (message, make) => expect(make).toThrow(message));

it("asks for the gates that the checkpoint does not have, and for layers that it has", () => {
  expect(() => model.session({ method: knn({ window: 10, merge: "gate" }) })).toThrow(/needs self_attn.knn_gate/);
  expect(() => model.session({ method: knn({ window: 10, layers: [0, 9] }) })).toThrow(/knn: layers names layer 9/);
  expect(() => model.session({ method: oracle({ k: 1, layers: [7] }) })).toThrow(/oracle: layers names layer 7/);
});
