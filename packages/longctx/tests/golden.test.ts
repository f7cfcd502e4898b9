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
  /** Those that it does not compute. */
  readonly refused?: readonly string[];
}

const DEVICES: readonly Device[] = [
  { name: "reference", create: createReference, tolerance: 5e-5 },
  {
    name: "cpu",
    create: (config, weights) => createCpu(config, weights),
    tolerance: 1e-3,
    refused: ["gemma2", "mixtral", "qwen3-moe"],
  },
];
const CAPACITY = 256;

describe.each(DEVICES)("$name", ({ create, tolerance, refused = [] }) => {
  describe.each(goldenNames().filter((name) => !refused.includes(name)))("%s", async (name) => {
    const { config, weights, cases, prompt, greedy } = await readGolden(name);
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

it.each(DEVICES.flatMap(({ create, name, refused = [] }) => refused.map((golden) => ({ create, name, golden }))))(
  "$name refuses $golden, with the devices that compute it",
  async ({ create, golden }) => {
    const { config, weights } = await readGolden(golden);
    await expect(async () => create(config, weights)).rejects.toThrow(/does not compute.*use the device webgpu/);
  },
);

function largestDifference(a: Float32Array, b: Float32Array): number {
  expect(a.length).toBe(b.length);
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);
}
