import { describe, expect, it } from "vitest";
import { compose, type AttentionPlan, type Backend, type SequenceState, type RingLayout } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { largestDifference, tinyConfig, tinyIds, tinyWeights } from "./tiny-model.ts";

const config = tinyConfig({ headSize: 8 });
const weights = tinyWeights(config);
const ids = tinyIds(24);
const layout: RingLayout = { capacity: 8, pinned: 8 };
const BACKENDS: Readonly<Record<string, () => Backend>> = {
  reference: () => createReference(config, weights),
  cpu: () => createCpu(config, weights, { threads: 1 }),
};

/** A backend without a session around it, which refuses most of this itself. */
describe.each(Object.entries(BACKENDS))("the %s", (_, create) => {
  const backend = create();
  const read = (cache: SequenceState, part: readonly number[]) => {
    const first = cache.rings.length;
    const length = first + part.length;
    const where = { config, trainedWindow: 32, first, count: part.length, length, promptLength: length };
    const plan = (layer: number): AttentionPlan => compose().plan({ ...where, layer });
    return backend.forward({ state: cache, ids: part, plan, logitRows: part.length }).then((logits) => logits.slice());
  };

  it.each([
    ["a text longer than the cache", ids, { capacity: 8, pinned: 8 }, /has 24 tokens, but the cache holds 8/],
    ["a chunk longer than the ring", ids, { capacity: 8, pinned: 2 }, /24 tokens does not fit the 6 moving slots/],
    ["a foreign id", [1, 32], layout, /32/],
    ["a negative id", [-1], layout, /-1/],
    ["an id in fractions", [0.5], layout, /0.5/],
  ] as const)("refuses %s and leaves the cache as it was", async (__, part, where, message) => {
    const cache = backend.createState(where);
    await expect(read(cache, part)).rejects.toThrow(message);
    expect(cache.rings.length).toBe(0);
    const logits = await read(cache, ids.slice(0, 5));
    expect(largestDifference(logits, await read(backend.createState(layout), ids.slice(0, 5)))).toBe(0);
  });

  it("refuses a cache that was disposed of", async () => {
    const cache = backend.createState(layout);
    await read(cache, [1]);
    cache.dispose();
    expect(cache.bytes).toBe(0);
    await expect(read(cache, [1])).rejects.toThrow(/disposed/);
  });

  it("goes on after a refusal", async () => {
    const cache = backend.createState(layout);
    const refused = read(backend.createState(layout), ids);
    const answered = read(cache, ids.slice(0, 3));
    await expect(refused).rejects.toThrow(/24 tokens/);
    expect(await answered).toHaveLength(3 * config.vocabSize);
  });

  it("refuses another device's cache", async () => {
    const other = backend.device === "cpu" ? BACKENDS.reference() : BACKENDS.cpu();
    await expect(read(other.createState(layout), [1])).rejects.toThrow(/another (backend|device)/);
  });
});

it.each(Object.entries(BACKENDS))("a ring that goes round does not change with the chunk: %s", async (_, create) => {
  const backend = create();
  const answers: Float32Array[] = [];
  for (const chunk of [1, 7]) {
    const cache = backend.createState({ capacity: 13, pinned: 2 });
    const logits: number[] = [];
    for (let first = 0; first < ids.length; first = cache.rings.length) {
      const toEnd = cache.rings.consecutive; // a chunk ends with the ring, as sessions cut it
      const part = ids.slice(first, first + Math.min(chunk, toEnd));
      const plan = (layer: number): AttentionPlan => {
        const context = { config, trainedWindow: 32, first, count: part.length, length: 24, promptLength: 24, layer };
        const segments = compose()
          .plan(context)
          .segments.map((segment) => ({ ...segment, band: { from: 0, to: 5 } }));
        return { segments };
      };
      logits.push(...(await backend.forward({ state: cache, ids: part, plan, logitRows: part.length })));
    }
    answers.push(Float32Array.from(logits));
  }
  expect(largestDifference(answers[1], answers[0])).toBeLessThan(1e-5);
});
