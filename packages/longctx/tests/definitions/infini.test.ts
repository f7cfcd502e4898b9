import { describe, expect, it } from "vitest";
import { stateless, Weights, type Method, type WeightTensor } from "@longctx/core";
import { printed, VECTORS } from "../../../core/tests/published-vectors.ts";
import { tinyConfig } from "../../../core/tests/tiny-model.ts";
import { methods } from "../../src/methods.ts";
import { DEVICES } from "../devices.ts";
import { infiniLogits } from "./dense-infini.ts";
import { expectInfini } from "./expect-infini.ts";
import { textOf } from "./judge.ts";
import { goldenModel, randomModel, randomText } from "./judged-models.ts";
import { expectClose, placeOf, readCalls, start } from "./sequences.ts";

const [llama, odd, normed, windowed] = await Promise.all(
  ["llama", "llama-odd-sizes", "qwen3", "mistral-swa"].map(goldenModel),
);
const random = randomModel();

describe.each(DEVICES)("%s", (device) => {
  const place = placeOf(device);

  describe("golden", () => {
    expectInfini(llama, place, { sequences: ["delta"] });
  });
  describe("3 key heads of 6", () => {
    expectInfini(random, place, { sequences: ["linear", "delta"] });
  });

  it.each([
    ["3 key heads of 6, of sizes that fit no kernel", odd, 16],
    ["norms of queries and keys come before the memory", normed, 16],
    ["a checkpoint's own sliding window acts inside a segment", windowed, 64],
  ])("%s", async (_, judged, segment) => {
    const ids = randomText(judged, 160, 7);
    const text = textOf(judged.llama, ids.length, judged.config.trainedWindow);
    const expected = infiniLogits(judged.llama, ids, { segment, update: "delta", beta: () => 0.3 }, text);
    const model = await place.open(judged.config, judged.weights);
    for (const chunk of [7, 64]) {
      const session = start(model, `infini:segment=${segment},update=delta,beta=0.3`, chunk);
      expectClose(await readCalls(session, ids, [100, 59, 1]), expected, place);
    }
    await model.dispose();
  });

  it.each([
    ["linear", [0, 2], 2],
    ["delta", [0, 2], 2],
    ["linear", [0, 1, 2], VECTORS.infini.lin_read],
    ["delta", [0, 1, 2], VECTORS.infini.delta_read],
    ["delta", [0, 0, 2], VECTORS.infini.delta_same_v_read],
  ] as const)("reads the published number: %s, %o", async (update, ids, expected) => {
    let read: Float32Array | undefined;
    const watch: Method = {
      spec: "watch",
      axes: [],
      hook: {
        layers: () => true,
        create: () => stateless({ attended: (_view, attended) => (read = attended.slice()) }),
      },
    };
    const model = await place.open(PUBLISHED.config, PUBLISHED.weights);
    const method = [...methods.parse(`infini:segment=1,update=${update},beta=1000`), watch];
    await model.session({ method, chunk: 4 }).prefill(ids);
    expect(printed(read!.slice(-2), 5)).toEqual([expected, 0]);
    await model.dispose();
  });
});

/** One head of two channels: tokens 0 and 1 have the key [0.5, −1] and the values [2, 0] and [4, 0]; token 2 asks [1, 0]. */
const PUBLISHED = published();

function published() {
  const config = tinyConfig({
    vocabSize: 4,
    hiddenSize: 4,
    layerCount: 1,
    queryHeads: 1,
    keyHeads: 1,
    headSize: 2,
    feedForwardSize: 4,
    norm: { kind: "rms", epsilon: 1e-12 },
    rope: { type: "default", base: 100, rotarySize: 2 },
  });
  const identity = Array.from({ length: 16 }, (_, i) => (i % 5 === 0 ? 1 : 0));
  const zeros = (count: number) => Array.from({ length: count }, () => 0);
  const tensors: Record<string, readonly [readonly number[], readonly number[]]> = {
    embedding: [[4, 4], identity],
    head: [[4, 4], identity],
    finalNorm: [[4], [1, 1, 1, 1]],
    "layers.0.attentionNorm": [[4], [0.5, 0.5, 0.5, 0.5]], // of a row of the identity: the row
    "layers.0.query": [[2, 4], [0, 0, 1, 0, 0, 0, 0, 0]], // prettier-ignore
    "layers.0.key": [[2, 4], [0.5, 0.5, 0, 0, -1, -1, 0, 0]], // prettier-ignore
    "layers.0.value": [[2, 4], [2, 4, 0, 0, 0, 0, 0, 0]], // prettier-ignore
    "layers.0.output": [[4, 2], zeros(8)],
    "layers.0.feedForwardNorm": [[4], [1, 1, 1, 1]],
    "layers.0.gate": [[4, 4], zeros(16)],
    "layers.0.up": [[4, 4], zeros(16)],
    "layers.0.down": [[4, 4], zeros(16)],
  };
  const weights = new Map(
    Object.entries(tensors).map(([name, [shape, values]]): [string, WeightTensor] => {
      const floats = Float32Array.from(values);
      const bytes = () => new Uint8Array(floats.slice().buffer);
      return [name, { name, type: "F32", shape, bytes, toFloat32: () => floats.slice() }];
    }),
  );
  return { config, weights: new Weights(weights) };
}
