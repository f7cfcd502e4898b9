import { describe, expect, it } from "vitest";
import {
  Capture,
  LanguageModel,
  LongctxError,
  type AttentionPlan,
  type LayerView,
  type Method,
  type MethodState,
} from "@longctx/core";
import { largestDifference, tinyBackend, tinyIds } from "./tiny-model.ts";

const model = new LanguageModel({ backend: tinyBackend(), tokenizer: null, chatTemplate: null });
const { queryHeads: H, keyHeads: K, headSize: D } = model.config;
const ids = tinyIds(20);

/** Retrieval at its smallest: each chunk keeps the `count` tokens whose un-rotated keys fit its queries best, and itself. */
function bestTokens(count: number): Method {
  return {
    spec: `best-tokens:count=${count}`,
    axes: ["visibility"],
    select: {
      layers: (layer) => layer === 0,
      plan: async (plan, view) => {
        const own = plan.segments.map((segment) => ({ ...segment, tokens: { from: view.first, to: Infinity } }));
        const chosen = Int32Array.from(best(view, count));
        return {
          segments: [...own, ...plan.segments.map((segment) => ({ ...segment, tokens: chosen }))],
        } satisfies AttentionPlan;
      },
    },
  };
}

/** The earlier tokens with the largest Σ q·k over the queries and heads of the chunk, ascending. */
function best(view: LayerView, count: number): number[] {
  const [queries, keys] = [view.queries(), view.keys({ from: 0, to: view.first })];
  const score = (n: number) => {
    let sum = 0;
    for (let t = 0; t < view.count; t++) {
      for (let h = 0; h < H; h++)
        for (let i = 0; i < D; i++)
          sum += queries[(t * H + h) * D + i] * keys[(n * K + Math.floor((h * K) / H)) * D + i];
    }
    return sum;
  };
  const scores = Array.from({ length: view.first }, (_, n) => ({ n, score: score(n) }));
  return scores.sort((a, b) => b.score - a.score).slice(0, count).map(({ n }) => n).sort((a, b) => a - b); // prettier-ignore
}

describe("retrieval", () => {
  it("attends to the tokens that the queries chose, and to no others", async () => {
    const capture = new Capture({ layers: [0], attention: true });
    const session = model.session({ method: bestTokens(3), chunk: 5 });
    await session.prefill(ids, { capture });
    const chunks = capture.attention(0);
    expect(chunks.map(({ first, count, tokens }) => [first, count, tokens])).toEqual([[0, 5, 5], [5, 5, 10], [10, 5, 15], [15, 5, 20]]); // prettier-ignore
    // The chosen tokens, from the plain model's first layer, which retrieval does not change.
    const chosen: number[][] = [];
    const watch: Method = {
      spec: "watch",
      axes: [],
      select: { layers: (layer) => layer === 0, plan: (plan, view) => (chosen.push(best(view, 3)), plan) },
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
        await model.session({ method: bestTokens(20), chunk: 5 }).prefill(ids, { logitRows: 20 }),
        plain,
      ),
    ).toBeLessThan(1e-6);
    expect(
      largestDifference(
        await model.session({ method: bestTokens(1), chunk: 5 }).prefill(ids, { logitRows: 20 }),
        plain,
      ),
    ).toBeGreaterThan(1e-4);
  });
});

/** Memory at its smallest: half of layer 1's output is the mean value of all tokens of earlier chunks. */
class MeanMemory implements MethodState {
  sum = new Float32Array(K * D);
  count = 0;

  attended(view: LayerView, attended: Float32Array): Float32Array {
    const values = view.values({ from: view.first, to: view.first + view.count });
    const merged =
      this.count === 0 ? attended : attended.map((value, i) => (value + this.sum[memoryIndex(i)] / this.count) / 2);
    values.forEach((value, i) => (this.sum[i % (K * D)] += value));
    this.count += view.count;
    return merged;
  }

  fork(): MeanMemory {
    const copy = new MeanMemory();
    copy.sum = this.sum.slice();
    copy.count = this.count;
    return copy;
  }

  save(): Uint8Array {
    return new Uint8Array(Float32Array.of(this.count, ...this.sum).buffer);
  }

  restore(bytes: Uint8Array): void {
    const [count, ...sum] = new Float32Array(bytes.slice().buffer);
    this.count = count;
    this.sum = Float32Array.from(sum);
  }

  truncate(length: number): void {
    if (length < this.count)
      throw new LongctxError(
        "argument",
        `The memory cannot forget the tokens after ${length}; fork the session before them.`,
      );
  }
}

/** Where channel i of [T, H, D] is in [K, D]. */
function memoryIndex(i: number): number {
  return Math.floor((Math.floor((i % (H * D)) / D) * K) / H) * D + (i % D);
}

const meanMemory: Method = {
  spec: "mean-memory",
  axes: ["memory"],
  memory: { layers: (layer) => layer === 1, create: () => new MeanMemory() },
};

describe("memory", () => {
  it("is merged after the softmax of its layer", async () => {
    // Layer 1's values do not depend on its own memory, so the plain model tells what has to be remembered and merged.
    const backend = tinyBackend();
    const cache = backend.createCache({ capacity: 20, pinned: 20 });
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
          return attended.map((value, i) => (value + mean[memoryIndex(i)]) / 2);
        },
      };
      const plan = (layer: number) => plain.plan({ first, count: 5, layer });
      expected.push((await backend.forward({ cache, ids: part, plan, logitRows: 5, hooks })).slice());
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
    const bytes = session.save();
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
