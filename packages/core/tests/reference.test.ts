import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import {
  compose,
  LongctxError,
  Weights,
  type AttentionPlan,
  type Backend,
  type SequenceState,
  type RingLayout,
  type LayerHooks,
  type LayerView,
} from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { ACTIVATE } from "../src/reference/dense.ts";
import { largestDifference, tinyBackend, tinyConfig, tinyIds, tinyWeights } from "./tiny-model.ts";

const backend = tinyBackend();
const { config } = backend;
const ids = tinyIds(24);
const whole: RingLayout = { capacity: 32, pinned: 32 };

function read(
  cache: SequenceState,
  part: readonly number[],
  options: { hooks?: LayerHooks; logitRows?: number; on?: Backend; window?: number } = {},
): Promise<Float32Array> {
  const on = options.on ?? backend;
  const first = cache.rings.length;
  const plan = (layer: number): AttentionPlan => {
    const made = compose().plan({
      config: on.config,
      trainedWindow: 32,
      first,
      count: part.length,
      length: first + part.length,
      promptLength: first + part.length,
      layer,
    });
    return options.window
      ? { segments: made.segments.map((segment) => ({ ...segment, band: { from: 0, to: options.window! } })) }
      : made;
  };
  return on.forward({
    state: cache,
    ids: part,
    plan,
    logitRows: options.logitRows ?? part.length,
    hooks: options.hooks,
  });
}

function thrownBy(act: () => unknown): unknown {
  try {
    act();
    return null;
  } catch (error) {
    return error;
  }
}

describe("the reference's cache", () => {
  it("forks into sequences that do not see each other", async () => {
    const cache = backend.createState(whole);
    await read(cache, ids.slice(0, 10));
    const fork = cache.fork();
    const other = tinyIds(10, 9);
    await read(fork, other.slice(0, 5)); // in turns, so that neither may overwrite what the other reads later
    await read(cache, ids.slice(10, 17));
    const forked = await read(fork, other.slice(5));
    const continued = await read(cache, ids.slice(17));
    for (const [text, expected] of [
      [[...ids.slice(0, 10), ...other], forked],
      [ids, continued],
    ] as const) {
      const alone = await read(backend.createState(whole), text, { logitRows: expected.length / 32 });
      expect(largestDifference(alone, expected)).toBeLessThan(1e-6);
    }
  });

  it("continues after truncation as if the rest had never been read", async () => {
    const cache = backend.createState(whole);
    await read(cache, ids);
    cache.truncate(10);
    const again = await read(cache, tinyIds(5, 9));
    const alone = backend.createState(whole);
    await read(alone, ids.slice(0, 10));
    expect(largestDifference(await read(alone, tinyIds(5, 9)), again)).toBe(0);
  });

  it.each<[string, RingLayout, RingLayout, number | undefined]>([
    ["whole", whole, whole, undefined],
    ["whole, into a larger one", { capacity: 24, pinned: 24 }, { capacity: 64, pinned: 64 }, undefined],
    ["bounded", { capacity: 13, pinned: 2 }, { capacity: 13, pinned: 2 }, 4],
    ["bounded, into a smaller one", { capacity: 13, pinned: 2 }, { capacity: 8, pinned: 2 }, 4],
  ])("is restored from its bytes: %s", async (_, layout, restoredLayout, window) => {
    const cache = backend.createState(layout);
    for (let at = 0; at < 20; at += 4) await read(cache, ids.slice(at, at + 4), { window });
    const restored = backend.restoreState(restoredLayout, await cache.save());
    expect(restored.rings.length).toBe(20);
    for (const next of [ids.slice(20, 22), ids.slice(22, 24)]) {
      expect(largestDifference(await read(restored, next, { window }), await read(cache, next, { window }))).toBe(0);
    }
  });

  it("refuses bytes that it did not save", async () => {
    const cache = backend.createState(whole);
    await read(cache, ids.slice(0, 5));
    const bytes = await cache.save();
    const restore = (changed: Uint8Array, layout = whole, on = backend) => on.restoreState(layout, changed);
    expect(() => restore(bytes.subarray(0, bytes.length - 8))).toThrow(/cut off/);
    expect(() => restore(Uint8Array.from([...bytes, 0]))).toThrow(/cut off/);
    expect(() => restore(new Uint8Array(3))).toThrow(/not a state/);
    expect(() => restore(bytes, whole, tinyBackend({ layerCount: 3 }))).toThrow(/layerCount 2, but the model has 3/);
    expect(() => restore(bytes, { capacity: 4, pinned: 4 })).toThrow(/capacity of at least 5/);
    const bounded = backend.createState({ capacity: 6, pinned: 1 });
    for (let at = 0; at < 20; at += 4) await read(bounded, ids.slice(at, at + 4));
    const boundedBytes = await bounded.save();
    expect(() => restore(boundedBytes, whole)).toThrow(/no longer holds token 1/);
    const flipped = fc.record({ at: fc.nat(120), to: fc.nat(255), length: fc.nat(bytes.length) });
    fc.assert(
      fc.property(flipped, ({ at, to, length }) => {
        const changed = bytes.slice(0, length < 200 ? length : undefined);
        if (at < changed.length) changed[at] = to;
        const error = thrownBy(() => restore(changed));
        expect(error === null || error instanceof LongctxError).toBe(true);
      }),
    );
  });

  it("does not believe a header that names an immense text", () => {
    const header = new TextEncoder().encode(
      JSON.stringify({
        format: "longctx reference state 3",
        layerCount: 2,
        keyHeads: 2,
        headSize: 6,
        layouts: [0, 1].map(() => ({ capacity: 2 ** 50, pinned: 2 ** 50 })),
        length: 2 ** 50,
        longest: 2 ** 50,
        memories: [],
        masses: [0, 1].map(() => [0, 0]),
      }),
    );
    const bytes = new Uint8Array(4 + header.length);
    new DataView(bytes.buffer).setUint32(0, header.length, true);
    bytes.set(header, 4);
    expect(() => backend.restoreState(whole, bytes)).toThrow(/cut off/);
  });

  it("says how large it is, and is of no use after dispose", async () => {
    const cache = backend.createState({ capacity: 16, pinned: 16 });
    expect(cache.bytes).toBe(16 * 2 * 6 * 8 * 2 * 2); // slots, K, D, float64, keys and values, layers
    cache.dispose();
    await expect(read(cache, [1])).rejects.toThrow(/disposed/);
  });
});

describe("the reference's requests", () => {
  it("gives the logits of the last rows only", async () => {
    const all = await read(backend.createState(whole), ids);
    const last = await read(backend.createState(whole), ids, { logitRows: 2 });
    expect(last).toEqual(all.slice(-2 * 32));
    expect(await read(backend.createState(whole), ids, { logitRows: 0 })).toEqual(new Float32Array(0));
  });

  it.each([[[32], 1, "Token 0 has the id 32"], [[-1], 1, "Token 0 has the id -1"], [[0.5], 1, "Token 0 has the id 0.5"], [[1], 2, "Logits of 2 rows"], [[1], -1, "Logits of -1 rows"]])(
    "refuses ids %j with %i rows of logits",
    async (part, logitRows, message) => {
      const cache = backend.createState(whole);
      await expect(read(cache, part, { logitRows })).rejects.toThrow(message);
      expect(cache.rings.length).toBe(0);
    },
  ); // prettier-ignore

  it("refuses a text longer than the cache and leaves the cache as it was", async () => {
    const cache = backend.createState({ capacity: 8, pinned: 8 });
    await expect(read(cache, ids)).rejects.toThrow(/24 tokens, but the cache holds 8/);
    expect(cache.rings.length).toBe(0);
    await read(cache, ids.slice(0, 8));
  });

  it("refuses another backend's cache", async () => {
    await expect(read(tinyBackend().createState(whole), ids)).rejects.toThrow(/made by another model/);
  });

  it("names the tensor that is missing or misshapen", () => {
    expect(() => createReference(config, new Weights(new Map()))).toThrow(/no tensor for/);
    expect(() => createReference(tinyConfig({ feedForwardSize: 31 }), tinyWeights(config))).toThrow(
      /shape \[32, 24\], but .* \[31, 24\]/,
    );
  });
});

describe("the reference's hooks", () => {
  const spy = (layers: readonly number[]) => {
    const seen: string[] = [];
    const views: LayerView[] = [];
    const hooks: LayerHooks = {
      layers: (layer) => layers.includes(layer),
      hidden: (layer, hidden) => seen.push(`hidden ${layer} ${hidden.length}`),
      queries: (view, plan) => {
        seen.push(`queries ${view.layer} ${view.queries().length}`);
        views.push(view);
        return plan;
      },
      attended: (view, attended) => {
        seen.push(`attended ${view.layer} ${attended.length}`);
        return attended;
      },
    };
    return { hooks, seen, views };
  };

  it("stop at the layers named, in order, and change nothing by looking", async () => {
    const { hooks, seen } = spy([1]);
    const looked = await read(backend.createState(whole), ids.slice(0, 3), { hooks });
    expect(seen).toEqual(["hidden 1 72", "queries 1 72", "attended 1 72"]);
    expect(largestDifference(looked, await read(backend.createState(whole), ids.slice(0, 3)))).toBeLessThan(1e-5);
  });

  it("show the residual stream: the embedding before the first layer", async () => {
    let first: Float32Array = new Float32Array(0);
    await read(backend.createState(whole), ids.slice(0, 3), {
      hooks: { layers: (layer) => layer === 0, hidden: (_, hidden) => void (first = Float32Array.from(hidden)) },
    });
    const embedding = tinyWeights(config).get("embedding", [32, 24]).toFloat32();
    expect(first).toEqual(
      Float32Array.from(ids.slice(0, 3).flatMap((id) => [...embedding.subarray(id * 24, (id + 1) * 24)])),
    );
  });

  it("show the chunk's own keys before attention, and earlier ones", async () => {
    const { hooks, views } = spy([0, 1]);
    const cache = backend.createState(whole);
    await read(cache, ids.slice(0, 5));
    await read(cache, ids.slice(5, 8), { hooks });
    const once = spy([0, 1]);
    await read(backend.createState(whole), ids.slice(0, 8), { hooks: once.hooks });
    views.forEach((view, layer) => {
      expect([view.first, view.count]).toEqual([5, 3]);
      expect(largestDifference(view.keys({ from: 2, to: 8 }), once.views[layer].keys({ from: 2, to: 8 }))).toBeLessThan(
        1e-6,
      );
      expect(
        largestDifference(view.values({ from: 2, to: 8 }), once.views[layer].values({ from: 2, to: 8 })),
      ).toBeLessThan(1e-6);
      expect(view.keys({ from: 2, to: 8 })).toHaveLength(6 * 2 * 6);
      expect(() => view.keys({ from: 7, to: 9 })).toThrow(/Token 8 is not in the cache/);
    });
  });

  it("may answer with another plan: only the query's own token gives its own value", async () => {
    let attended: Float32Array = new Float32Array(0);
    let values: Float32Array = new Float32Array(0);
    const hooks: LayerHooks = {
      layers: (layer) => layer === 0,
      queries: async (_, plan) => ({
        segments: plan.segments.map((segment) => ({ ...segment, band: { from: 0, to: 1 } })),
      }),
      attended: (view, output) => {
        attended = Float32Array.from(output);
        values = view.values({ from: 0, to: 4 });
        return output;
      },
    };
    await read(backend.createState(whole), ids.slice(0, 4), { hooks });
    for (let t = 0; t < 4; t++) {
      for (let h = 0; h < 4; h++)
        expect(attended.slice((t * 4 + h) * 6, (t * 4 + h + 1) * 6)).toEqual(
          values.slice((t * 2 + (h >> 1)) * 6, (t * 2 + (h >> 1) + 1) * 6),
        );
    }
  });

  it("may replace what was attended: zeros are what a query gets that sees nothing", async () => {
    const none: LayerHooks = { layers: () => true, queries: () => ({ segments: [] }) };
    const zeros: LayerHooks = { layers: () => true, attended: (_, attended) => attended.fill(0) };
    const blind = await read(backend.createState(whole), ids, { hooks: none });
    expect(await read(backend.createState(whole), ids, { hooks: zeros })).toEqual(blind);
    expect(blind.every(Number.isFinite)).toBe(true);
  });
});

describe("activations", () => {
  it.each([
    ["silu", 1, 0.7310585786300049],
    ["silu", -20, -4.1223071e-8],
    ["gelu", 1, 0.8413447460685429],
    ["gelu", -3, -0.00404969409489031],
    ["gelu", 9, 9],
    ["gelu", 0, 0],
    ["gelu-tanh", 1, 0.8411919906082768],
    ["gelu-tanh", -3, -0.003637392081773027],
  ] as const)("%s(%d) = %d", (name, x, y) => {
    expect(ACTIVATE[name](x)).toBeCloseTo(y, 14);
  });
});
