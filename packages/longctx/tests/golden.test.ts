import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createReference, LanguageModel, type Backend, type ModelConfig, type Weights } from "@longctx/core";
import { goldenNames, readGolden } from "./read-golden.ts";

interface Device {
  readonly name: string;
  create(config: ModelConfig, weights: Weights): Backend | Promise<Backend>;
  /** Largest difference of a logit from what transformers computes in float32. */
  readonly tolerance: number;
}

const DEVICES: readonly Device[] = [{ name: "reference", create: createReference, tolerance: 5e-5 }];
const CAPACITY = 256;

describe.each(DEVICES)("$name", ({ create, tolerance }) => {
  describe.each(goldenNames())("%s", (name) => {
    const golden = readGolden(name);
    let model: LanguageModel;

    beforeAll(async () => {
      model = new LanguageModel({ backend: await create(golden.config, golden.weights), tokenizer: null, chatTemplate: null });
    });
    afterAll(() => model.dispose());

    it.each(golden.cases.map((expected) => ({ length: expected.ids.length, ...expected })))("computes the logits of $length tokens", async ({ ids, logits }) => {
      const session = model.session({ capacity: CAPACITY, chunk: ids.length });
      expect(largestDifference(await session.prefill(ids, { logitRows: ids.length }), logits)).toBeLessThan(tolerance);
      session.dispose();
    });

    it.each([7, 16, 64])("computes the same in chunks of %i", async (chunk) => {
      const { ids, logits } = golden.cases[1];
      const session = model.session({ capacity: CAPACITY, chunk });
      expect(largestDifference(await session.prefill(ids, { logitRows: ids.length }), logits)).toBeLessThan(tolerance);
      session.dispose();
    });

    it("continues greedily with the same tokens", async () => {
      const session = model.session({ capacity: CAPACITY });
      const generation = session.generate({ prompt: golden.prompt, maxNew: golden.greedy.length, temperature: 0, stopTokens: [] });
      for await (const { id } of generation) void id;
      expect(generation.ids).toEqual(golden.greedy);
      session.dispose();
    });
  });
});

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}
