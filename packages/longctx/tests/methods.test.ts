import { describe, expect, it } from "vitest";
import { LanguageModel, type Method } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { dynamicNtk, interpolation, yarn } from "@longctx/rope";
import { readGolden } from "./read-golden.ts";

/** Checkpoints with the same weights as golden/llama, whose config asks for what the methods do. */
const MADE_WITH: readonly (readonly [string, Method])[] = [
  ["llama-rope-linear", interpolation({ factor: 4 })],
  ["llama-rope-dynamic", dynamicNtk({ factor: 4 })],
  ["llama-rope-yarn", yarn({ factor: 4 })],
];

describe("a method on a plain checkpoint is what transformers computes under the config that names it", async () => {
  const { config, weights } = await readGolden("llama");
  const model = new LanguageModel({ backend: createReference(config, weights), tokenizer: null, chatTemplate: null });

  it.each(MADE_WITH)("%s", async (name, method) => {
    const golden = await readGolden(name);
    expect(golden.weights.get("layers.0.query", [64, 64]).toFloat32()).toEqual(
      weights.get("layers.0.query", [64, 64]).toFloat32(),
    );
    for (const { ids, logits } of golden.cases) {
      const computed = await model.session({ method, capacity: 256 }).prefill(ids, { logitRows: ids.length });
      const largest = computed.reduce((most, value, i) => Math.max(most, Math.abs(value - logits[i])), 0);
      expect(largest).toBeLessThan(5e-5);
    }
    const generation = model
      .session({ method, capacity: 256 })
      .generate({ prompt: golden.prompt, maxNew: golden.greedy.length, stopTokens: [] });
    for await (const { id } of generation) void id;
    expect(generation.ids).toEqual(golden.greedy);
  });
});
