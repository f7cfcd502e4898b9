import { fileURLToPath } from "node:url";
import { weightsChecksum } from "@longctx/core";
import { expect, test } from "vitest";
import { openCheckpoint } from "../src/checkpoint/disk.ts";
import { goldenFolder, rawTensors, readConfig } from "./model-files.ts";
import { buildSafetensors } from "./safetensors-builder.ts";
import { refusalOf, scratchFolder } from "./scratch.ts";

const INFINI = fileURLToPath(new URL("../../longctx/tests/data/tiny-infini", import.meta.url));
const scratch = scratchFolder();

test("gates that a model was trained with are weights of their method", async () => {
  const { weights, config, close } = await openCheckpoint(INFINI);
  const ofMethods = [...weights.names()].filter((name) => name.includes(".method."));
  expect(ofMethods.sort()).toEqual(["layers.0.method.infini_gate", "layers.1.method.infini_gate"]);
  const gate = (layer: number) => weights.get(`layers.${layer}.method.infini_gate`, [config.queryHeads]).toFloat32();
  expect([...gate(0)].map((value) => value.toFixed(2))).toEqual(["1.10", "0.42", "1.05", "1.44"]);
  const sigmoid = (value: number) => (1 / (1 + Math.exp(-value))).toFixed(2);
  expect([0, 1].map((layer) => [...gate(layer)].map(sigmoid))).toEqual([
    ["0.75", "0.60", "0.74", "0.81"],
    ["0.99", "1.00", "0.04", "0.03"],
  ]);
  close();
});

test("they come beside the model's own weights, which stay as they are", async () => {
  const golden = goldenFolder("llama");
  const { num_attention_heads: heads } = readConfig(golden);
  const bytes = (values: Float32Array) => new Uint8Array(values.buffer);
  const own = [...rawTensors(golden)].map(([name, { shape, values }]) => [
    name,
    { dtype: "F32", shape, bytes: bytes(values) },
  ]);
  const scale = Float32Array.from({ length: heads }, (_, head) => 8 + head);
  const added = ["knn_gate", "knn_scale", "other_gate"].map((name) => [
    `model.layers.1.self_attn.${name}`,
    { dtype: "F32", shape: [heads], bytes: bytes(scale) },
  ]);
  scratch.write("config.json", JSON.stringify(readConfig(golden)));
  scratch.write("model.safetensors", buildSafetensors(Object.fromEntries([...own, ...added])));

  const [plain, gated] = [await openCheckpoint(golden), await openCheckpoint(scratch.path)];
  const names = new Set(plain.weights.names());
  expect([...gated.weights.names()].filter((name) => !names.has(name))).toEqual([
    "layers.1.method.knn_gate",
    "layers.1.method.knn_scale",
  ]);
  expect(gated.weights.get("layers.1.method.knn_scale", [heads]).toFloat32()).toEqual(scale);
  for (const name of names) expect(gated.weights.get(name, plain.weights.find(name)!.shape)).toBeDefined();
  expect(weightsChecksum(gated.weights, gated.config)).not.toBe(weightsChecksum(plain.weights, plain.config));
  const { message } = await refusalOf(() => gated.weights.get("layers.1.method.knn_gate", [heads + 1]));
  expect(message).toContain(`model.layers.1.self_attn.knn_gate has the shape [${heads}]`);
  plain.close();
  gated.close();
});

test("a model without them has the checksum it had before there were any", async () => {
  const { weights, config, close } = await openCheckpoint(goldenFolder("llama"));
  expect(weightsChecksum(weights, config)).toBe(3483110828);
  close();
});
