import { describe, expect, it } from "vitest";
import { Capture, LanguageModel, stateless, type LayerView, type Method } from "@longctx/core";
import { best, bestTokens, meanMemory, memoryIndex } from "./example-methods.ts";
import { largestDifference, tinyBackend, tinyIds } from "./tiny-model.ts";

const model = new LanguageModel({ backend: tinyBackend(), tokenizer: null, chatTemplate: null });
const { queryHeads: H, keyHeads: K, headSize: D } = model.config;
const ids = tinyIds(20);

describe("retrieval", () => {
  it("attends to the tokens that the queries chose, and to no others", async () => {
    const capture = new Capture({ layers: [0], attention: true });
    const session = model.session({ method: bestTokens(3, model.config), chunk: 5 });
    await session.prefill(ids, { capture });
    const chunks = capture.attention(0);
    expect(chunks.map(({ first, count, tokens }) => [first, count, tokens])).toEqual([[0, 5, 5], [5, 5, 10], [10, 5, 15], [15, 5, 20]]); // prettier-ignore
    // The chosen tokens, from the plain model's first layer, which retrieval does not change.
    const chosen: number[][] = [];
    const watch: Method = {
      spec: "watch",
      axes: [],
      hook: {
        layers: (layer) => layer === 0,
        create: () => stateless({ plan: (plan, view) => (chosen.push(best(view, 3, model.config)), plan) }),
      },
    };
    await model.session({ method: watch, chunk: 5 }).prefill(ids);
    chunks.forEach(({ first, count, tokens, weights }, c) => {
      expect(chosen[c]).toHaveLength(Math.min(3, first));
      for (let h = 0; h < H; h++) {
        for (let t = 0; t < count; t++) {
          const row = weights.subarray((h * count + t) * tokens, (h * count + t + 1) * tokens);
          expect([...row.keys()].filter((n) => row[n] > 0)).toEqual([
            ...chosen[c],
            ...Array.from({ length: t + 1 }, (_, i) => first + i),
          ]);
          expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
        }
      }
    });
  });

  it("with room for every token is the model as it is", async () => {
    const plain = await model.session({ chunk: 5 }).prefill(ids, { logitRows: 20 });
    expect(
      largestDifference(
        await model.session({ method: bestTokens(20, model.config), chunk: 5 }).prefill(ids, { logitRows: 20 }),
        plain,
      ),
    ).toBeLessThan(1e-6);
    expect(
      largestDifference(
        await model.session({ method: bestTokens(1, model.config), chunk: 5 }).prefill(ids, { logitRows: 20 }),
        plain,
      ),
    ).toBeGreaterThan(1e-4);
  });
});

describe("memory", () => {
  it("is merged after the softmax of its layer", async () => {
    // Layer 1's values do not depend on its own memory, so the plain model tells what has to be remembered and merged.
    const backend = tinyBackend();
    const cache = backend.createState({ capacity: 20, pinned: 20 });
    const plain = new LanguageModel({ backend, tokenizer: null, chatTemplate: null }).session();
    let values: Float32Array = new Float32Array(0);
    const expected: Float32Array[] = [];
    for (let first = 0; first < 20; first += 5) {
      const part = ids.slice(first, first + 5);
      const hooks = {
        layers: (layer: number) => layer === 1,
        attended: (view: LayerView, attended: Float32Array) => {
          values = view.values({ from: 0, to: view.first });
          if (first === 0) return attended;
          const mean = Array.from(
            { length: K * D },
            (_, c) => values.reduce((sum, value, i) => sum + (i % (K * D) === c ? value : 0), 0) / first,
          );
          return attended.map((value, i) => (value + mean[memoryIndex(i, model.config)]) / 2);
        },
      };
      const plan = (layer: number) => plain.plan({ first, count: 5, layer });
      expected.push((await backend.forward({ state: cache, ids: part, plan, logitRows: 5, hooks })).slice());
    }
    const logits = await model.session({ method: meanMemory, chunk: 5 }).prefill(ids, { logitRows: 20 });
    expect(
      largestDifference(
        logits,
        expected.flatMap((rows) => [...rows]),
      ),
    ).toBeLessThan(1e-5);
    expect(
      largestDifference(logits, await model.session({ chunk: 5 }).prefill(ids, { logitRows: 20 })),
    ).toBeGreaterThan(1e-4);
  });

  it("is forked, saved and restored with its session", async () => {
    const straight = await model.session({ method: meanMemory, chunk: 5 }).prefill(ids, { logitRows: 5 });
    const session = model.session({ method: meanMemory, chunk: 5 });
    await session.prefill(ids.slice(0, 10));
    const bytes = await session.save();
    const fork = session.fork();
    await fork.prefill(tinyIds(10, 9)); // what the fork remembers is not what the session remembers
    expect(await session.prefill(ids.slice(10), { logitRows: 5 })).toEqual(straight);
    const restored = model.restoreSession(bytes, { method: meanMemory, chunk: 5 });
    expect(await restored.prefill(ids.slice(10), { logitRows: 5 })).toEqual(straight);
  });

  it("says when it cannot be truncated", async () => {
    const session = model.session({ method: meanMemory, chunk: 5 });
    await session.prefill(ids);
    expect(() => session.truncate(10)).toThrow(/cannot forget/);
  });
});
