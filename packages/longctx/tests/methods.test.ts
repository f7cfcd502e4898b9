import { describe, expect, it } from "vitest";
import type { Method } from "@longctx/core";
import { dynamicNtk, interpolation, yarn } from "@longctx/rope";
import { DEVICES, modelOf } from "./devices.ts";
import { readGolden } from "./read-golden.ts";

/** Checkpoints with the same weights as golden/llama, whose config asks for what the methods do. */
const MADE_WITH: readonly (readonly [string, Method])[] = [
  ["llama-rope-linear", interpolation({ factor: 4 })],
  ["llama-rope-dynamic", dynamicNtk({ factor: 4 })],
  ["llama-rope-yarn", yarn({ factor: 4 })],
];

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
    for (const { ids, logits } of golden.cases) {
      const computed = await model.session({ method, capacity: 256 }).prefill(ids, { logitRows: ids.length });
      const largest = computed.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0);
      expect(largest).toBeLessThan(TOLERANCE[device]);
    }
    const generation = model
      .session({ method, capacity: 256 })
      .generate({ prompt: golden.prompt, maxNew: golden.greedy.length, stopTokens: [] });
    for await (const { id } of generation) void id;
    expect(generation.ids).toEqual(golden.greedy);
  });
});
