import { describe, expect, it } from "vitest";
import { compose, hnswIndex, load, parseMethod, stateless, type Method } from "longctx";
import { WORLD } from "../../tasks/src/world.ts";

const SINKS = 4;
const KEYS = 10_000;
const WINDOW = 128;
const COUNT = 32;
const LAYER = 2;

let available = true;
try {
  hnswIndex().create(1);
} catch {
  available = false; // hnswlib-node is not installed, or was not compiled
}

/** Sentences of the embedded model's world, each another one. */
function prose(sentences: number): string {
  const { subjects, verbs, objects, endings } = WORLD;
  return Array.from({ length: sentences }, (_, i) => {
    const pick = (words: readonly string[], step: number) => words[(i * step + Math.floor(i / 7)) % words.length];
    return `${pick(subjects, 3)} ${pick(verbs, 7)} ${pick(objects, 11)} ${pick(endings, 4)} .`;
  }).join(" ");
}

/** The keys of key head 0 and the last queries of query head 0, as a model computes them of a text. */
async function keysAndQueries(): Promise<{ keys: Float32Array; queries: Float32Array[]; size: number }> {
  const model = await load("tiny", { device: "cpu" });
  const { headSize: size, queryHeads, keyHeads } = model.config;
  const keys = new Float32Array(KEYS * size);
  const queries: Float32Array[] = [];
  const end = SINKS + KEYS + WINDOW;
  const state = stateless({
    plan: (plan, view) => {
      const { first, count } = view;
      const rows = view.keys({ from: first, to: first + count });
      for (let token = Math.max(first, SINKS); token < Math.min(first + count, SINKS + KEYS); token++) {
        const at = (token - first) * keyHeads * size;
        keys.set(rows.subarray(at, at + size), (token - SINKS) * size);
      }
      for (let token = Math.max(first, end - 20); token < Math.min(first + count, end); token++) {
        const at = (token - first) * queryHeads * size;
        queries.push(view.queries().slice(at, at + size));
      }
      return plan;
    },
  });
  const collecting: Method = {
    spec: "collecting",
    axes: [],
    hook: { layers: (layer) => layer === LAYER, create: () => state },
  };
  const method = compose(parseMethod(`lm-infinite:sinks=${SINKS},window=${WINDOW}`), collecting);
  const session = model.session({ method });
  await session.prefill(model.tokenizer!.encode(prose(KEYS / 10)).slice(0, end));
  expect(session.length).toBe(end);
  session.dispose();
  await model.dispose();
  return { keys, queries, size };
}

describe.skipIf(!available)("an index of 10,000 keys of the embedded model", () => {
  it("finds the best 32 with as many candidates as keys, and most of them with 128", async () => {
    const { keys, queries, size } = await keysAndQueries();
    const built = hnswIndex().create(size);
    built.add(SINKS, keys);
    const saved = built.save();
    built.dispose();
    const recalls = [KEYS, 128].map((ef) => {
      const index = hnswIndex({ ef }).restore(saved, size);
      const found = queries.map((query) => {
        // Keys may be equal, so what was found counts by its product.
        const products = Float64Array.from({ length: KEYS }, (_, row) => {
          let sum = 0;
          for (let i = 0; i < size; i++) sum += query[i] * keys[row * size + i];
          return sum;
        });
        const least = products.toSorted()[KEYS - COUNT];
        const tokens = [...index.search(query, COUNT)];
        expect(new Set(tokens).size).toBe(COUNT);
        return tokens.filter((token) => products[token - SINKS] >= least - 1e-5 * Math.abs(least)).length / COUNT;
      });
      index.dispose();
      return found.reduce((sum, one) => sum + one) / found.length;
    });
    expect(recalls[0]).toBeGreaterThanOrEqual(0.999);
    expect(recalls[1]).toBeGreaterThan(0.95);
  });
});
