import { describe, expect, it, vi } from "vitest";
import * as fc from "fast-check";
import {
  attentionWeights,
  Capture,
  EVERYTHING,
  LanguageModel,
  makeTable,
  TEXT_POSITION,
  type Interval,
  type LayerView,
} from "@longctx/core";
import { attentionRows } from "../src/session/attention-rows.ts";
import { randomPlans } from "./random-plans.ts";
import { largestDifference, randomNumbers, tinyBackend, tinyConfig, tinyIds } from "./tiny-model.ts";

const [H, K, D, FIRST, COUNT] = [6, 3, 10, 23, 17];
const config = tinyConfig({ queryHeads: H, keyHeads: K, headSize: D, attentionSoftCap: 3 });
const random = randomNumbers(4);
const numbers = (count: number) => Float32Array.from({ length: count }, () => 4 * random() - 2);
const queries = numbers(COUNT * H * D);
const keys = numbers((FIRST + COUNT) * K * D);
const view: LayerView = {
  layer: 0,
  first: FIRST,
  count: COUNT,
  queries: () => queries,
  keys: ({ from, to }) => keys.slice(from * K * D, to * K * D),
  values: () => new Float32Array(0),
};

/** Takes heads and rows out of the probabilities [H, T, n] of all of them. */
function part(all: Float32Array, heads: readonly number[], rows: Interval, first: number, count: number): number[] {
  const size = all.length / (H * count);
  return heads.flatMap((head) => [
    ...all.subarray((head * count + rows.from - first) * size, (head * count + rows.to - first) * size),
  ]);
}

describe("attentionRows", () => {
  it("gives the rows and heads of attentionWeights, under any plan", () => {
    fc.assert(
      fc.property(
        randomPlans(4),
        fc.uniqueArray(fc.integer({ min: 0, max: H - 1 }), { minLength: 1 }),
        fc.integer({ min: 0, max: COUNT - 1 }),
        fc.integer({ min: 1, max: COUNT }),
        (makePlan, heads, from, count) => {
          const plan = makePlan(FIRST, COUNT);
          const rows = { from: FIRST + from, to: FIRST + Math.min(COUNT, from + count) };
          const weights = attentionRows(plan, view, config, { rows, heads });
          const expected = part(attentionWeights(plan, view, config), heads, rows, FIRST, COUNT);
          expect(largestDifference(weights, expected)).toBeLessThan(1e-6);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("reads no keys that the rows do not see", () => {
    const ranges: Interval[] = [];
    const spied: LayerView = { ...view, keys: (range) => (ranges.push(range), view.keys(range)) };
    const text = {
      table: makeTable(Float64Array.of(1, 0.3)),
      queryPosition: TEXT_POSITION,
      keyPosition: TEXT_POSITION,
    };
    const plan = {
      segments: [
        { ...text, tokens: EVERYTHING, band: { from: 0, to: 3 } },
        { ...text, tokens: Int32Array.of(1, 4, 5, 39), band: { from: 3, to: Infinity } },
      ],
    };
    attentionRows(plan, spied, config, { rows: { from: 30, to: 32 }, heads: [2] });
    expect(ranges).toEqual([{ from: 1, to: 2 }, { from: 4, to: 6 }, { from: 28, to: 32 }]); // prettier-ignore
  });

  it("refuses plans that show a token twice", () => {
    const text = { table: makeTable(new Float64Array(4)), queryPosition: TEXT_POSITION, keyPosition: TEXT_POSITION };
    const segment = { ...text, tokens: EVERYTHING, band: EVERYTHING };
    const plan = { segments: [segment, { ...segment, tokens: Int32Array.of(2) }] };
    expect(() => attentionRows(plan, view, config, { rows: { from: 25, to: 26 }, heads: [0] })).toThrow(
      "segments 0 and 1 both show token 2 to query 25",
    );
  });
});

describe("a capture of some rows and heads", () => {
  const model = new LanguageModel({ backend: tinyBackend({ layerCount: 3 }), tokenizer: null, chatTemplate: null });
  const ids = tinyIds(20);

  it("is that part of a capture of all, in the chunks that hold such rows", async () => {
    const all = new Capture({ layers: [0, 1, 2], hidden: false, attention: true });
    const some = new Capture({ heads: [[2, 3], [0, 1], [2, 0], [2, 3]], rows: { from: 8, to: 13 } }); // prettier-ignore
    for (const capture of [all, some]) await model.session({ chunk: 6 }).prefill(ids, { capture });
    for (const [layer, heads] of [
      [0, [1]],
      [2, [0, 3]],
    ] as const) {
      const chunks = some.attention(layer);
      expect(chunks.map(({ first, count, tokens, heads: of }) => ({ first, count, tokens, heads: of }))).toEqual([
        { first: 8, count: 4, tokens: 12, heads },
        { first: 12, count: 1, tokens: 18, heads },
      ]);
      chunks.forEach(({ first, count, tokens, weights }, i) => {
        const whole = all.attention(layer)[i + 1];
        const expected = heads.flatMap((head) => [
          ...whole.weights.subarray((head * whole.count + first - whole.first) * tokens, (head * whole.count + first + count - whole.first) * tokens), // prettier-ignore
        ]);
        expect([...weights]).toEqual(expected);
      });
    }
    expect(() => some.attention(1)).toThrow(/No attention weights of layer 1/);
    expect(() => some.hidden(0)).toThrow(/No hidden states of layer 0/);
  });

  it("stops no pass that reads none of the rows, and only at layers with a captured head", async () => {
    const forward = vi.spyOn(model.backend, "forward");
    const capture = new Capture({ heads: [[1, 0]], rows: { from: 18, to: Infinity } });
    await model.session({ chunk: 6 }).prefill(ids, { capture });
    const watched = forward.mock.calls.map(([{ hooks }]) => hooks && [0, 1, 2].map((layer) => hooks.layers(layer)));
    forward.mockRestore();
    expect(watched).toEqual([undefined, undefined, undefined, [false, true, false]]);
  });

  it.each<[string, ConstructorParameters<typeof Capture>[0], RegExp]>([
    ["a layer", { layers: [1, 3] }, /Layer 3 was to be captured.*from 0 to 2/],
    ["a head", { heads: [[1, 4]] }, /Head 4 of layer 1 was to be captured.*from 0 to 3/],
    ["a head in no layer", { heads: [[-1, 0]] }, /Layer -1 was to be captured/],
  ])("names %s that the model does not have", async (_, wants, message) => {
    const session = model.session();
    await expect(session.prefill(ids, { capture: new Capture(wants) })).rejects.toThrow(message);
    expect(session.length).toBe(0);
  });
});
