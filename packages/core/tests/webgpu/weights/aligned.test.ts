import { expect, it } from "vitest";
import { Weights } from "@longctx/core";
import { alignModel } from "../../../src/webgpu/weights/aligned.ts";
import { tinyConfig, tinyWeights } from "../../tiny-model.ts";

it("leaves what a method was trained with as it is", () => {
  const config = tinyConfig({ hiddenSize: 30, headSize: 6, queryHeads: 3, keyHeads: 3 });
  const weights = tinyWeights(config);
  const values = Float32Array.of(1, 2, 3);
  const gate = { name: "infini_gate", type: "F32", shape: [3], toFloat32: () => values } as const;
  const gated = new Map([...weights.names()].map((name) => [name, weights.find(name)!]));
  gated.set("layers.0.method.infini_gate", { ...gate, bytes: () => new Uint8Array(values.buffer) });
  const aligned = alignModel(config, new Weights(gated));
  expect(aligned.config.hiddenSize).toBe(32);
  expect(aligned.weights.get("layers.0.attentionNorm", [32]).toFloat32()).toHaveLength(32);
  expect(aligned.weights.get("layers.0.method.infini_gate", [3]).toFloat32()).toEqual(values);
});
