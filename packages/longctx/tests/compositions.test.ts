import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { Capture, compose, LanguageModel, LongctxError, type Composition, type ModelConfig } from "@longctx/core";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, tinyIds, tinyModels } from "./devices.ts";

/** Models whose attention differs in every way that a plan can notice. */
const MODELS: Readonly<Record<string, Partial<ModelConfig>>> = {
  "grouped heads, partly rotated": {},
  "heads of a size without kernels": { headSize: 6 },
  "one key head": { queryHeads: 3, keyHeads: 1, rope: { type: "default", base: 100, rotarySize: 8 } },
  "as many key heads": { queryHeads: 2, keyHeads: 2, rope: { type: "default", base: 100, rotarySize: 4 } },
  "a sliding window in the second layer": { slidingWindows: [null, 7] },
  "sliding windows of two sizes": { slidingWindows: [12, 5] },
  "a YaRN of its own": { rope: { type: "yarn", base: 100, rotarySize: 6, factor: 4, originalMaxPositions: 16 } },
  "a dynamic NTK of its own": { maxPositions: 20, rope: { type: "dynamic", base: 100, rotarySize: 6, factor: 2 } },
};

const factor = fc.constantFrom(1, 1.5, 4, 16);
const frequencies = fc.oneof(
  fc.constant("none"),
  fc.tuple(fc.constantFrom("interpolation", "ntk", "dynamic-ntk"), factor).map(([name, s]) => `${name}:factor=${s}`),
  factor.map((s) => `yarn:factor=${s}`),
  fc
    .tuple(factor, fc.constantFrom(0, 1), fc.constantFrom(1, 1.3))
    .map(([s, truncate, tau]) => `yarn:factor=${s},truncate=${truncate},attention_factor=${tau},beta_fast=4`),
);
const places = fc.oneof(
  fc.constant("none"),
  fc
    .tuple(fc.integer({ min: 1, max: 40 }), fc.constantFrom(0, 1))
    .map(([window, logn]) => `rerope:window=${window},logn=${logn}`),
  fc
    .tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 1, max: 24 }))
    .map(([sinks, window]) => `streaming:sinks=${sinks},window=${window}`),
);

/** Every composition that is allowed; the others are refused by name, which is tested elsewhere. */
const composition = fc
  .tuple(frequencies, places)
  .map(([a, b]) => attempt(`${a}+${b}`))
  .filter((method) => method !== null);

function attempt(spec: string): Composition | null {
  try {
    return compose(...methods.parse(spec));
  } catch (error) {
    if (error instanceof LongctxError && error.code === "method") return null;
    throw error;
  }
}

const reading = fc.record({
  method: composition,
  trainedWindow: fc.integer({ min: 4, max: 64 }),
  chunk: fc.oneof(fc.integer({ min: 1, max: 24 }), fc.constant(100)),
  /** Tokens handed over at each call; a generated token is a call of one. */
  calls: fc.array(fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 40 })), { minLength: 1, maxLength: 6 }),
  /** Looking at a layer takes the path on which the decoder stops at every layer. */
  looked: fc.boolean(),
  seed: fc.nat(1000),
});

describe.each(Object.entries(MODELS))("%s", (_, changes) => {
  const models = tinyModels(changes);

  it("computes on the cpu what compositions of methods are defined to be", async () => {
    await fc.assert(
      fc.asyncProperty(reading, async ({ method, trainedWindow, chunk, calls, looked, seed }) => {
        const ids = tinyIds(
          calls.reduce((sum, count) => sum + count),
          seed,
        );
        const results = await Promise.all(
          DEVICES.map(async (device) => {
            const { backend } = models[device];
            const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null, trainedWindow });
            const session = model.session({ method, chunk, capacity: 256 });
            const logits: Float32Array[] = [];
            let at = 0;
            for (const count of calls) {
              const capture = looked ? new Capture({ layers: [1] }) : undefined;
              logits.push(await session.prefill(ids.slice(at, at + count), { logitRows: count, capture }));
              at += count;
            }
            session.dispose();
            return logits;
          }),
        );
        results[0].forEach((logits, call) => expect(difference(results[1][call], logits)).toBeLessThan(1e-4));
      }),
      { numRuns: 25 },
    );
  });
});
