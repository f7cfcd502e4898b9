import { describe, expect, it } from "vitest";
import type { LanguageModel, Method, ModelConfig } from "@longctx/core";
import { dynamicNtk, interpolation, llama3, longrope, yarn } from "@longctx/rope";
import { DEVICES, modelOf } from "./devices.ts";
import { readGolden, type Golden } from "./read-golden.ts";

/** Checkpoints with the same weights as golden/llama, whose config asks for what the methods do. */
const MADE_WITH: readonly (readonly [string, Method])[] = [
  ["llama-rope-linear", interpolation({ factor: 4 })],
  ["llama-rope-dynamic", dynamicNtk({ factor: 4 })],
  ["llama-rope-yarn", yarn({ factor: 4 })],
];

/** Checkpoints of other bases and other models, which are read as if their config asked for nothing. */
const STRIPPED: readonly (readonly [string, (config: ModelConfig) => Method])[] = [
  ["llama-rope-llama3", () => llama3({ factor: 8 })],
  ["phi3-rope-longrope", longropeOf],
  ["phi3-longrope-grows", longropeOf],
];

function longropeOf({ rope, maxPositions, trainedWindow }: ModelConfig): Method {
  return longrope({ short: rope.shortFactors!, long: rope.longFactors!, factor: maxPositions / trainedWindow });
}

/** As in the test of the golden checkpoints themselves. */
const TOLERANCE = { reference: 5e-5, cpu: 1e-3 } as const;

describe.each(DEVICES)("a method is what transformers computes under the config that names it: %s", async (device) => {
  const { config, weights } = await readGolden("llama");
  const model = modelOf(device, config, weights);

  it.each(MADE_WITH)("%s", async (name, method) => {
    const golden = await readGolden(name);
    expect(golden.weights.get("layers.0.query", [64, 64]).toFloat32()).toEqual(
      weights.get("layers.0.query", [64, 64]).toFloat32(),
    );
    await expectGolden(model, method, golden, TOLERANCE[device]);
  });

  it.each(STRIPPED)("%s", async (name, methodOf) => {
    const golden = await readGolden(name);
    const { base, rotarySize } = golden.config.rope;
    const stripped = { ...golden.config, rope: { type: "default", base, rotarySize } as const };
    const plain = modelOf(device, stripped, golden.weights);
    await expectGolden(plain, methodOf(golden.config), golden, TOLERANCE[device]);
  });
});

async function expectGolden(model: LanguageModel, method: Method, golden: Golden, tolerance: number): Promise<void> {
  for (const { ids, logits } of golden.cases) {
    const computed = await model.session({ method, capacity: 256 }).prefill(ids, { logitRows: ids.length });
    const largest = computed.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0);
    expect(largest).toBeLessThan(tolerance);
  }
  const generation = model
    .session({ method, capacity: 256 })
    .generate({ prompt: golden.prompt, maxNew: golden.greedy.length, stopTokens: [] });
  for await (const { id } of generation) void id;
  expect(generation.ids).toEqual(golden.greedy);
}
