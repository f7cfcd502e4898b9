import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { compose, Weights, type ModelConfig, type TensorType, type WeightTensor } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { dequantise } from "../../loaders/src/tensor/dequantise.ts";
import { kernelBytes } from "../kernels/build.ts";
import { largestDifference, randomNumbers, readText, tinyConfig, tinyIds, tinyWeights } from "./tiny-model.ts";

it("the module in the source is what the kernels compile to", async () => {
  const kept = readFileSync(new URL("../src/cpu/wasm/kernel-bytes.ts", import.meta.url), "utf8");
  expect(await kernelBytes()).toBe(kept);
}, 60_000);

const SIZES = { hiddenSize: 64, headSize: 16, feedForwardSize: 96, vocabSize: 36, layerCount: 2 } as const;

describe("one token at a time", () => {
  it.each([
    { type: "Q4_0", bytes: 18 },
    { type: "Q4_1", bytes: 20 },
    { type: "Q5_0", bytes: 22 },
    { type: "Q8_0", bytes: 34 },
  ] as const)("gives what the reference gives on $type", async ({ type, bytes }) => {
    const config = tinyConfig({ ...SIZES, rope: { type: "default", base: 100, rotarySize: 16 } });
    const weights = quantisedWeights(config, type, bytes);
    const ids = tinyIds(24);
    const expected = await readText(createReference(config, weights), compose(), ids, { chunk: 8 });
    const scale = expected.reduce((largest, logit) => Math.max(largest, Math.abs(logit)), 0);
    for (const [precision, tolerance] of [
      ["exact", 3e-6],
      ["fast", 2e-2],
    ] as const) {
      for (const threads of [1, 3]) {
        const backend = createCpu(config, weights, { precision, threads });
        const logits = await readText(backend, compose(), ids, { chunk: 1 });
        expect(largestDifference(logits, expected)).toBeLessThan(tolerance * scale);
        await backend.dispose();
      }
    }
  });
});

/** Random blocks: f16 scales (and minima) of a few sixteenths, random codes. */
function quantisedWeights(config: ModelConfig, type: TensorType, blockBytes: number): Weights {
  const random = randomNumbers(3);
  const floats = tinyWeights(config);
  const names = ["embedding", "head", "finalNorm"];
  for (let layer = 0; layer < config.layerCount; layer++)
    for (const part of ["attentionNorm", "query", "key", "value", "output", "feedForwardNorm", "gate", "up", "down"])
      names.push(`layers.${layer}.${part}`);
  return new Weights(
    new Map(
      names.map((name): [string, WeightTensor] => {
        const tensor = floats.find(name)!;
        if (tensor.shape.length === 1) return [name, tensor];
        const [rows, columns] = tensor.shape;
        const size = (rows * columns) / 32;
        const stored = Uint8Array.from({ length: size * blockBytes }, () => random() * 256);
        const view = new DataView(stored.buffer);
        const minima = type === "Q4_1";
        for (let block = 0; block < size; block++) {
          // 2⁻⁷ and more, or 2⁻¹¹ for codes of 8 bits.
          view.setUint16(block * blockBytes, (type === "Q8_0" ? 0x1000 : 0x2000) + Math.floor(random() * 512), true);
          if (minima) view.setUint16(block * blockBytes + 2, 0xac00, true); // −2⁻⁴
        }
        return [name, { ...tensor, type, bytes: () => stored, toFloat32: () => dequantise(type, stored) }];
      }),
    ),
  );
}
