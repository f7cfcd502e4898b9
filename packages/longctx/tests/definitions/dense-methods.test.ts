import { describe, expect, it } from "vitest";
import { printed, VECTORS } from "../../../core/tests/published-vectors.ts";
import * as is from "./definitions.ts";
import { best, margin } from "./choosing.ts";
import { denseBlocks, type Blocks } from "./dense-blocks.ts";
import { emptyMemory, infiniLogits, insideSegments, recall, remember, sigma, type Infini } from "./dense-infini.ts";
import { attend, denseForward, denseLogits } from "./dense-llama.ts";
import { groupsOf } from "./dense-sequence.ts";
import { difference, textOf } from "./judge.ts";
import { goldenModel, randomModel, randomText } from "./judged-models.ts";

/** The judges of memory and retrieval are judged: by published numbers, and by what they have to be the same as. */
const llama = await goldenModel("llama");
const odd = await goldenModel("llama-odd-sizes");
const MODELS = [llama, odd, randomModel()];

describe("a compressive memory", () => {
  const { M1, z1, lin_read, delta_read, delta_same_v_read } = VECTORS.infini;
  const key = [0.5, -1];
  const once = (update: Infini["update"]) => remember(emptyMemory(2, 1), [key], [[2]], update);
  const readAfter = (update: Infini["update"], value: number) =>
    printed([...recall(remember(once(update), [key], [[value]], update), [1, 0])]);

  it.each(["linear", "delta"] as const)("holds the published numbers after a segment: %s", (update) => {
    const { M, z } = once(update);
    expect(printed(M.map((row) => row[0]))).toEqual(M1);
    expect(printed([...z])).toEqual(z1);
    expect(printed([...recall(once(update), [1, 0])])).toEqual([2]);
  });

  it("reads the published numbers after a second segment", () => {
    expect(readAfter("linear", 4)).toEqual([lin_read]);
    expect(readAfter("delta", 4)).toEqual([delta_read]);
    expect(readAfter("delta", 2)).toEqual([delta_same_v_read]);
  });

  it("reads zeros before the first segment", () => {
    expect([...recall(emptyMemory(2, 3), key)]).toEqual([0, 0, 0]);
  });
});

describe.each(MODELS)("infini on $name", ({ llama: model, ...rest }) => {
  const ids = randomText({ llama: model, ...rest }, 75, 1);
  const text = textOf(model, ids.length);
  const infini = (beta: number, update: Infini["update"] = "linear"): Infini => ({
    segment: 16,
    update,
    beta: () => beta,
  });

  it("without memory is attention inside segments", () => {
    const local = denseLogits(model, ids, is.define([insideSegments(16)], text));
    expect(difference(infiniLogits(model, ids, infini(-1e3), text), local)).toBeLessThan(1e-12);
  });

  it("with a linear memory alone is attention to all earlier segments with the weights σ(q)·σ(k)", () => {
    const { queryHeads, keyHeads, headSize } = model;
    const alone = denseForward(model, ids, (_, { q, k, v }) => {
      const out = new Float64Array(q.length);
      for (let head = 0; head < queryHeads; head++)
        for (let m = 16; m < ids.length; m++) {
          const features = sigma(q.subarray((m * queryHeads + head) * headSize).subarray(0, headSize));
          const weights = Array.from({ length: m - (m % 16) }, (_weight, n) => {
            const from = (n * keyHeads + Math.floor((head * keyHeads) / queryHeads)) * headSize;
            const key = sigma(k.subarray(from, from + headSize));
            return { from, weight: features.reduce((sum, feature, j) => sum + feature * key[j], 0) };
          });
          const total = weights.reduce((sum, { weight }) => sum + weight, 0);
          for (const { from, weight } of weights)
            for (let j = 0; j < headSize; j++)
              out[(m * queryHeads + head) * headSize + j] += (weight / total) * v[from + j];
        }
      return out;
    });
    expect(difference(infiniLogits(model, ids, infini(1e3), text), alone)).toBeLessThan(1e-10);
  });

  it("halves what the first segment attends to, by a gate of 0", () => {
    const first = ids.slice(0, 16);
    const halved = denseForward(model, first, (layer, rows) =>
      attend(model, 16, rows, is.define([], text), layer).map((x) => x / 2),
    );
    expect(difference(infiniLogits(model, first, infini(0), text), halved)).toBeLessThan(1e-12);
  });

  it("differs by its update and by its segments", () => {
    const linear = infiniLogits(model, ids, infini(0.3), text);
    const delta = infiniLogits(model, ids, infini(0.3, "delta"), text);
    const larger = infiniLogits(model, ids, { ...infini(0.3), segment: 32 }, text);
    const from = 32 * model.vocabSize; // both updates write the same into an empty memory
    expect(difference(linear.subarray(0, from), delta.subarray(0, from))).toBeLessThan(1e-12);
    expect(difference(linear, delta)).toBeGreaterThan(0.01);
    expect(difference(linear, larger)).toBeGreaterThan(0.1);
  });
});

describe("choices", () => {
  it("are made by groups that end at multiples and with a call", () => {
    const group = (first: number, count: number) => ({ first, count });
    expect(groupsOf(0, 48, 16)).toEqual([group(0, 16), group(16, 16), group(32, 16)]);
    expect(groupsOf(5, 21, 8)).toEqual([group(5, 3), group(8, 8), group(16, 5)]);
    expect(groupsOf(21, 22, 8)).toEqual([group(21, 1)]);
  });

  it("take the best, and the first of equals", () => {
    expect(best([1, 5, 3, 5, 5], 2)).toEqual([1, 3]);
    expect(best([1, 5], 3)).toEqual([0, 1]);
    expect(margin([1, 5, 3, 4], [1, 3])).toBe(0.2);
    expect(margin([1, 5, 3, 4], [1, 2])).toBe(-0.2);
    expect(margin([1, 5], [0, 1])).toBe(Infinity);
  });
});

describe.each(MODELS)("blocks on $name", ({ llama: model, ...rest }) => {
  const ids = randomText({ llama: model, ...rest }, 75, 1);
  const text = textOf(model, ids.length);
  const plain = is.define([], text);
  const blocks: Blocks = {
    size: 8,
    top: 2,
    local: 16,
    sinks: 2,
    representative: "mean",
    repr: 4,
    positions: "constant",
    query: "chunk",
    exec: 16,
    share: "heads",
  };
  const all: Blocks = { ...blocks, top: 100 };
  const read = (method: Blocks, calls: readonly number[] = [75], attention = plain): Float64Array =>
    denseBlocks(model, method, attention).read(ids, calls);
  const singles = ids.map(() => 1);

  it("all of them in order are the plain model", () => {
    const logits = denseLogits(model, ids, plain);
    for (const calls of [[75], [30, 45], singles])
      expect(difference(read({ ...all, positions: "ordered" }, calls), logits)).toBeLessThan(1e-10);
  });

  it("all of them at a constant distance are ReRoPE, also under another table and temperature", () => {
    for (const parts of [[], [is.yarn(4)], [is.ntk(4), is.logn]]) {
      const rerope = denseLogits(model, ids, is.define([...parts, is.rerope(15)], text));
      expect(difference(read(all, [75], is.define(parts, text)), rerope)).toBeLessThan(1e-10);
    }
  });

  it("none of them are sinks, a band and the remainder of the group", () => {
    const none: Blocks = { ...blocks, top: 0 };
    const remains = (first: number, n: number) => 2 + (Math.floor((n - 2) / 8) + 1) * 8 - 1 > first - 16;
    const mask = (firstOf: (m: number) => number): is.Part => ({
      g: (m, n) => Math.min(m - n, 15),
      visible: (m, n) => n <= m && (n < 2 || m - n < 16 || remains(firstOf(m), n)),
    });
    const whole = denseLogits(model, ids, is.define([mask((m) => m - (m % 16))], text));
    expect(difference(read(none), whole)).toBeLessThan(1e-10);
    const single = denseLogits(model, ids, is.define([mask((m) => m)], text));
    expect(difference(read(none, singles), single)).toBeLessThan(1e-10);
    const lambda: is.Part = {
      g: (m, n) => Math.min(m - n, 15),
      visible: (m, n) => n <= m && (n < 2 || m - n < 16),
    };
    const bare = denseLogits(model, ids, is.define([lambda], text));
    expect(difference(read({ ...none, size: 1 }, singles), bare)).toBeLessThan(1e-10);
  });

  it("differ by what is chosen, by the groups that choose and by positions", () => {
    const some = read(blocks);
    for (const other of [{ top: 0 }, { top: 1 }, { top: 100 }, { exec: 8 }, { positions: "ordered" } as const])
      expect(difference(read({ ...blocks, ...other }), some)).toBeGreaterThan(0.01);
    expect(difference(read(blocks, [56, 19]), some)).toBeGreaterThan(1e-3);
    expect(difference(read(blocks, [32, 43]), some)).toBe(0);
  });

  it("a text goes on from a copy, and from its beginning", () => {
    const sequence = denseBlocks(model, blocks, plain);
    sequence.read(ids.slice(0, 48));
    const fork = sequence.fork();
    fork.read(ids.slice(0, 20));
    fork.truncate(48);
    const expected = read(blocks, [48, 27]).subarray(48 * model.vocabSize);
    for (const one of [fork, sequence]) expect(difference(one.read(ids.slice(48)), expected)).toBe(0);
  });
});
