import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { LanguageModel, sees, type ModelConfig } from "@longctx/core";
import { shakenModels } from "./close-calls.ts";
import { DEVICES, difference, distinctIds, tinyModels, TOLERANCE } from "./devices.ts";
import { randomComposition } from "./random-methods.ts";
import { randomReading, readCalls, sum, takes } from "./random-readings.ts";

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

describe.each(Object.entries(MODELS))("%s", (_, changes) => {
  // Equal tokens would have equal keys, and choices among them would be ties.
  const models = tinyModels({ vocabSize: 256, ...changes });
  const { config } = models.reference;
  const pairs = config.rope.rotarySize / 2;

  it("computes on the cpu what compositions of methods are defined to be, in whatever parts", async () => {
    await fc.assert(
      fc.asyncProperty(randomReading(pairs), async ({ method, trainedWindow, chunk, calls, parts, looked, seed }) => {
        const ids = distinctIds(sum(calls), seed);
        const length = parts ? ids.length : undefined;
        fc.pre(takes(method, length ?? calls[0], { config, trainedWindow }));
        const [reference, cpu] = DEVICES.map((device) => {
          const { backend } = models[device];
          return new LanguageModel({ backend, tokenizer: null, chatTemplate: null, trainedWindow });
        });
        const options = { method, chunk, capacity: 256 };
        const expected = await readCalls(reference.session(options), ids, calls, { length, looked });
        const computed = await readCalls(cpu.session(options), ids, calls, { length, looked });
        if (difference(computed, expected) >= 1e-4)
          for (const model of shakenModels(config, trainedWindow)) {
            const shaken = await readCalls(model.session(options), ids, calls, { length, looked });
            fc.pre(difference(shaken, expected) < 1e-4); // a choice that is too close to call
          }
        expect(difference(computed, expected)).toBeLessThan(1e-4);
        // A call ends a group, so what a grouped method sees depends on the calls.
        if (length === undefined || method.groupSize !== undefined) return;
        const atOnce = Math.max(1, method.readAtOnce);
        const single = [atOnce, ...Array.from({ length: length - atOnce }, () => 1)];
        const stepped = await readCalls(reference.session(options), ids, single, { length });
        expect(difference(stepped, expected)).toBeLessThan(TOLERANCE.reference);
      }),
      { numRuns: 15 },
    );
  });
});

it("plans show a token to a query once at most, itself always, and never one that is not kept", () => {
  const { config } = tinyModels().reference;
  fc.assert(
    fc.property(
      randomComposition(3),
      fc.integer({ min: 1, max: 9 }),
      fc.integer({ min: 5, max: 40 }),
      (method, count, promptLength) => {
        const context = { config, trainedWindow: 16, layer: 0 };
        fc.pre(takes(method, promptLength, context));
        const layout = method.layout({ ...context, chunk: count });
        const hides = method.spec.includes("oracle:"); // whose queries may have to choose themselves
        for (let first = 0; first < promptLength; first += count) {
          const { segments } = method.plan({ ...context, first, count, length: promptLength, promptLength });
          const oldest = layout ? first + count - (layout.capacity - layout.pinned) : 0;
          for (let m = first; m < first + count; m++) {
            for (let n = 0; n < promptLength; n++) {
              const times = segments.filter((segment) => sees(segment, m, n)).length;
              const ahead = n > m && (m >= method.readAtOnce || n >= method.readAtOnce);
              const kept = n < (layout?.pinned ?? 0) || n >= oldest;
              const least = m === n && !hides ? 1 : 0;
              const most = ahead || !kept ? 0 : 1;
              expect([m, n, times >= least && times <= most]).toEqual([m, n, true]);
            }
          }
        }
      },
    ),
    { numRuns: 60 },
  );
});
