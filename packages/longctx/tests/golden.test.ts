import { describe, expect, it } from "vitest";
import { LanguageModel, type Backend, type ModelConfig, type Weights } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { goldenNames, readGolden } from "./read-golden.ts";

interface Device {
  readonly name: string;
  create(config: ModelConfig, weights: Weights): Backend | Promise<Backend>;
  /** Largest difference of a logit from what transformers computes in float32. */
  readonly tolerance: number;
}

const DEVICES: readonly Device[] = [
  { name: "reference", create: createReference, tolerance: 5e-5 },
  { name: "cpu", create: (config, weights) => createCpu(config, weights), tolerance: 1e-3 },
];
const CAPACITY = 256;

describe.each(DEVICES)("$name", ({ name: device, create, tolerance }) => {
  describe.each(goldenNames())("%s", async (name) => {
    const { config, weights, cases, prompt, greedy } = await readGolden(name);
    if (device === "cpu" && (config.experts || config.attentionSoftCap !== undefined)) {
      it("is refused, with the devices that compute it", () => {
        expect(() => createCpu(config, weights)).toThrow(
          /which the device cpu does not compute; use the device webgpu/,
        );
      });
      return;
    }
    const model = new LanguageModel({ backend: await create(config, weights), tokenizer: null, chatTemplate: null });
    const [short, long] = cases;

    it.each([
      { title: "48 tokens at once", ...short, chunk: 48 },
      { title: "160 tokens at once", ...long, chunk: 160 },
      ...[7, 16, 64].map((chunk) => ({ title: `160 tokens in chunks of ${chunk}`, ...long, chunk })),
    ])("computes the logits of $title", async ({ ids, logits, chunk }) => {
      const session = model.session({ capacity: CAPACITY, chunk });
      expect(largestDifference(await session.prefill(ids, { logitRows: ids.length }), logits)).toBeLessThan(tolerance);
      session.dispose();
    });

    it("continues greedily with the same tokens", async () => {
      const session = model.session({ capacity: CAPACITY });
      const generation = session.generate({ prompt, maxNew: greedy.length, stopTokens: [] });
      for await (const { id } of generation) void id;
      expect(generation.ids).toEqual(greedy);
      session.dispose();
    });
  });
});

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}
