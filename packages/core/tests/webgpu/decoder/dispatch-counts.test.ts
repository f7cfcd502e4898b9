import { describe, expect, it } from "vitest";
import { compose, Weights, type Method, type ModelConfig, type TensorType, type WeightTensor } from "@longctx/core";
import { infini } from "../../../../infini/src/index.ts";
import { blocks, knn } from "../../../../retrieval/src/index.ts";
import { createWebGpu } from "../../../src/webgpu/index.ts";
import { tinyConfig, tinyIds } from "../../tiny-model.ts";
import { chunksOf } from "../attention/attention-scene.ts";
import { MockGpu, type MockOptions } from "../mock-gpu.ts";
import { planOf } from "../plan-of.ts";
import { storedMatrix } from "../weights/stored-weights.ts";

const CONFIG = tinyConfig({ hiddenSize: 256, feedForwardSize: 256, queryHeads: 4, keyHeads: 2, headSize: 64, rope: { type: "default", base: 100, rotarySize: 64 } }); // prettier-ignore

/** Weights of the types that `typeOf` gives for a matrix of a layer ("query", "gate", …). */
function weightsOf(config: ModelConfig, typeOf: (name: string) => TensorType): Weights {
  const { hiddenSize: hidden, feedForwardSize: inner, vocabSize } = config;
  const [queries, keys] = [config.queryHeads * config.headSize, config.keyHeads * config.headSize];
  const matrices = { query: [queries, hidden], key: [keys, hidden], value: [keys, hidden], output: [hidden, queries], gate: [inner, hidden], up: [inner, hidden], down: [hidden, inner] }; // prettier-ignore
  const norms = ["attentionNorm", "feedForwardNorm", "attentionPostNorm", "feedForwardPostNorm"];
  const tensors = new Map<string, WeightTensor>();
  const vector = (name: string) => tensors.set(name, { ...storedMatrix("F32", 1, hidden), shape: [hidden] });
  tensors.set("embedding", storedMatrix("Q8_0", vocabSize, hidden));
  tensors.set("head", storedMatrix("Q8_0", vocabSize, hidden));
  vector("finalNorm");
  for (let layer = 0; layer < config.layerCount; layer++) {
    for (const name of norms) vector(`layers.${layer}.${name}`);
    for (const [name, [rows, columns]] of Object.entries(matrices))
      tensors.set(`layers.${layer}.${name}`, storedMatrix(typeOf(name), rows, columns));
  }
  return new Weights(tensors);
}

/** Kernels of one layer in a decode step, behind so many tokens. */
async function layerOf(
  changes: Partial<ModelConfig>,
  typeOf: (name: string) => TensorType,
  { before = 1, method, ...options }: MockOptions & { readonly before?: number; readonly method?: Method } = {},
) {
  const mock = new MockGpu(options);
  const config = { ...CONFIG, ...changes };
  const backend = await createWebGpu(config, weightsOf(config, typeOf), { source: mock.source });
  const cache = backend.createState({ capacity: 4096, pinned: 4096 });
  const read = async (ids: readonly number[]) => {
    mock.dispatched = [];
    const plan = planOf(config, method ? compose(method) : compose(), cache, ids.length);
    await backend.forward({ state: cache, ids, plan, logitRows: 1 });
  };
  for (const some of chunksOf(before, 512)) await read(tinyIds(some));
  await read([1]);
  await backend.dispose();
  const kinds = mock.dispatched.map((name) => name.split(" ")[0]);
  expect([kinds[0], kinds[kinds.length - 1]]).toEqual(["embedding", "product"]);
  const each = kinds.slice(1, -1);
  expect(each.length % config.layerCount).toBe(0);
  return each.slice(0, each.length / config.layerCount);
}

const attention = ["rotate-and-store", "attention-split", "attention-reduce"];

/** What docs/webgpu.md says of a decode step. */
describe("a layer of a decode step takes", () => {
  it("7 dispatches where all products are of one type", async () => {
    const kinds = ["product", ...attention, "product", "product", "product"];
    expect(await layerOf({}, () => "Q4_K")).toEqual(kinds);
  });

  it("8 as llama.cpp mixes types in Q4_K_M, where values are Q6_K", async () => {
    const mixed = await layerOf({}, (name) => (name === "value" || name === "down" ? "Q6_K" : "Q4_K"));
    expect(mixed).toEqual(["product", "product", ...attention, "product", "product", "product"]);
  });

  it("9 with norms behind attention and feed-forward, as Gemma 2 has", async () => {
    const gemma = await layerOf({ postNorms: true }, () => "Q4_K");
    expect(gemma).toEqual(["product", ...attention, "product", "norm", "product", "product", "norm"]);
  });

  it("10 with such norms and values of another type", async () => {
    const gemma = await layerOf({ postNorms: true }, (name) => (name === "value" ? "Q6_K" : "Q4_K"));
    expect(gemma).toHaveLength(10);
  });

  it("9 where gate and up are of different types", async () => {
    const apart = await layerOf({}, (name) => (name === "up" ? "Q8_0" : "Q4_0"));
    expect(apart).toEqual(["product", ...attention, "product", "product", "product", "activation", "product"]);
  });

  it("two more for each further buffer of a cache that is split by heads", async () => {
    const split = await layerOf({}, () => "Q4_K", {
      before: 2049, // room for 4096, of which a binding holds one head
      limits: { maxStorageBufferBindingSize: 2 ** 20 },
    });
    const twice = ["rotate-and-store", "rotate-and-store", "attention-split", "attention-split", "attention-reduce"];
    expect(split.filter((kind) => kind !== "product")).toEqual(twice);
  });

  it.each([
    [12, []], // the token 12, of the segment that began with 8
    [16, ["memory-write"]],
  ])("one more for reading a compressive memory, and one when a segment was read: token %i", async (before, write) => {
    const kinds = await layerOf({}, () => "Q4_K", { before, method: infini({ segment: 8, beta: 0 }) });
    expect(kinds.filter((kind) => kind !== "product")).toEqual([...attention, ...write, "memory-read"]);
  });

  it("one more yet where what the memory answers already is subtracted", async () => {
    const method = infini({ segment: 8, beta: 0, update: "delta" });
    const kinds = await layerOf({}, () => "Q4_K", { before: 16, method });
    expect(kinds.filter((kind) => kind.startsWith("memory"))).toEqual([
      "memory-residual",
      "memory-write",
      "memory-read",
    ]);
  });

  it.each([
    [33, []], // token m has ⌊(m − 18) / 8⌋ candidates, and the group before it began with token 32
    [34, ["block-means"]],
  ])("three more where blocks are chosen, and one when there is another block: token %i", async (before, means) => {
    const method = blocks({ size: 8, top: 2, local: 16, sinks: 3, exec: 16 });
    const kinds = await layerOf({}, () => "Q4_K", { before, method });
    const [store, ...attend] = attention;
    const choosing = [...means, "asking-query", "block-scores", "choose-blocks"];
    expect(kinds.filter((kind) => kind !== "product")).toEqual([store, ...choosing, ...attend]);
  });

  const [store, split, reduce] = attention;
  const place = { size: 8, top: 2, local: 16, sinks: 3, exec: 16 };
  const ofRows = ["choice-scores", "choose-rows"];
  it.each<[string, Method, number, readonly string[]]>([
    ["tokens of each head", knn({ k: 3, window: 12 }), 40, [store, ...ofRows, split, "attention-sparse", reduce]],
    [
      "tokens of each head behind a gate",
      knn({ k: 3, window: 12, merge: "gate", gate: 0, scale: 1 }),
      40,
      [store, ...ofRows, split, reduce, "attention-sparse", "gate-branch"],
    ],
    ["a gate before there is a token to find", knn({ k: 3, window: 60, merge: "gate", gate: 0, scale: 1 }), 40, [...attention, "gate-branch"]], // prettier-ignore
    [
      "blocks of each key head, at consecutive positions",
      blocks({ ...place, share: "group", positions: "ordered" }),
      33,
      [store, "asking-query", ...ofRows, split, "attention-sparse", reduce],
    ],
    [
      "blocks of each token, another one among them",
      blocks({ ...place, query: "token" }),
      34,
      [store, "block-means", ...ofRows, split, "attention-sparse", reduce],
    ],
    [
      "blocks by their bounds, another one among them",
      blocks({ ...place, representative: "bounds" }),
      34,
      [store, "block-bounds", "asking-query", "choice-scores", "choose-blocks", split, reduce],
    ],
    [
      "blocks by salient keys, another one among them",
      blocks({ ...place, representative: "salient" }),
      34,
      [store, "salient-means", "asking-query", "block-scores", "choose-blocks", split, reduce, "row-totals", "attention-mass"], // prettier-ignore
    ],
  ])("what docs/webgpu.md says of choices: %s", async (_, method, before, kinds) => {
    const dispatched = await layerOf({}, () => "Q4_K", { before, method });
    expect(dispatched.filter((kind) => kind !== "product")).toEqual(kinds);
  });
});
