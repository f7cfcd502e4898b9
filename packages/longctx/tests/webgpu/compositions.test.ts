import { afterAll, describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { LanguageModel, type ModelConfig } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { createWebGpu } from "@longctx/core/webgpu";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { difference } from "../definitions/judge.ts";
import { randomReading, readCalls, sum, takes } from "../random-readings.ts";
import { gpu } from "./model.ts";

afterAll(() => gpu?.destroy());

const MODELS: Readonly<Record<string, Partial<ModelConfig>>> = {
  "grouped heads, partly rotated": {},
  "a YaRN of its own": { rope: { type: "yarn", base: 100, rotarySize: 6, factor: 4, originalMaxPositions: 16 } },
  "a dynamic NTK of its own, and a window": {
    maxPositions: 20,
    slidingWindows: [null, 7],
    rope: { type: "dynamic", base: 100, rotarySize: 6, factor: 2 },
  },
};

describe.skipIf(gpu === null).each(Object.entries(MODELS))("webgpu: %s", (_, changes) => {
  // Texts without a repetition, for equal tokens have equal keys in layer 0, and a tie may fall either way.
  const config = tinyConfig({ maxPositions: 512, headSize: 8, vocabSize: 256, ...changes });
  const weights = tinyWeights(config);

  it("computes what compositions of random methods are defined to be, in whatever parts", async () => {
    const [reference, webgpu] = [
      createReference(config, weights),
      await createWebGpu(config, weights, { device: gpu! }),
    ];
    await fc.assert(
      fc.asyncProperty(randomReading(3), async ({ method, trainedWindow, chunk, calls, parts, looked, seed }) => {
        const ids = Array.from({ length: sum(calls) }, (_id, i) => (i * 2 * seed + i + seed) % config.vocabSize);
        const length = parts ? ids.length : undefined;
        fc.pre(takes(method, length ?? calls[0], { config, trainedWindow }));
        const [expected, computed] = await Promise.all(
          [reference, webgpu].map((backend) => {
            const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null, trainedWindow });
            return readCalls(model.session({ method, chunk, capacity: 256 }), ids, calls, { length, looked });
          }),
        );
        expect(difference(computed, expected)).toBeLessThan(1e-3);
      }),
      { numRuns: 12 },
    );
    await webgpu.dispose();
  });
});
