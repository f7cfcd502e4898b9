import { describe, expect, it } from "vitest";
import {
  EVERYTHING,
  stateless,
  type AttentionPlan,
  type LayerView,
  type Method,
  type MethodState,
} from "@longctx/core";
import { DEVICES, difference, tinyModels, TOLERANCE } from "./devices.ts";
import { expectSame, ids, models, planned } from "./planned.ts";

const rows = (logits: Float32Array, from: number, to: number) => logits.subarray(from * 32, to * 32);

/** Without attention, what a token gives depends on nothing but its id. */
function expectBlind(logits: Float32Array, from: number, to: number): void {
  const pairs = ids.slice(from, to).flatMap((id, i) => {
    const again = ids.indexOf(id, from + i + 1);
    return again > 0 && again < to ? [[from + i, again] as const] : [];
  });
  expect(pairs.length).toBeGreaterThan(0);
  for (const [a, b] of pairs)
    expect(difference(rows(logits, a, a + 1), rows(logits, b, b + 1))).toBeLessThan(TOLERANCE.reference);
}

describe.each([
  ["as one graph", false],
  ["layer by layer", true],
])("%s", (_, looked) => {
  it("a query that sees nothing gets zeros", async () => {
    const blind = planned((segments) =>
      segments.flatMap((segment) => [
        { ...segment, queries: { from: 0, to: 20 } },
        { ...segment, queries: { from: 37, to: Infinity } },
      ]),
    );
    for (const chunk of [1, 7, 16, 100]) {
      const logits = await expectSame(blind, { chunk, looked });
      const plain = await expectSame(
        planned((segments) => [...segments]),
        { chunk, looked },
      );
      expect(difference(rows(logits, 0, 20), rows(plain, 0, 20))).toBeLessThan(TOLERANCE.reference);
      expectBlind(logits, 20, 37);
    }
  });

  it("a plan without segments gives zeros, in a layer or in a chunk", async () => {
    const layerless = planned((segments, { layer }) => (layer === 1 ? [] : [...segments]));
    const late = planned((segments, { first }) => (first < 20 ? [] : [...segments]));
    const nothing = planned(() => []);
    const plain = await expectSame(
      planned((segments) => [...segments]),
      { looked },
    );
    for (const chunk of [1, 20]) {
      const half = await expectSame(layerless, { chunk, looked });
      expect(difference(half, plain)).toBeGreaterThan(1e-2);
      expect(difference(half, await expectSame(nothing, { chunk, looked }))).toBeGreaterThan(1e-2);
      await expectSame(late, { chunk, looked });
      expectBlind(await expectSame(nothing, { chunk, looked }), 0, 60);
    }
  });

  it("a list shows its tokens and no others, the chunk's own and later ones too", async () => {
    const even = Int32Array.from({ length: 100 }, (_even, i) => 2 * i);
    const listed = planned((segments) => segments.map((segment) => ({ ...segment, tokens: even })));
    const odd = planned((segments) =>
      segments.flatMap((segment) => [
        { ...segment, tokens: even },
        { ...segment, tokens: even.map((n) => n + 1) },
      ]),
    );
    const plain = await expectSame(
      planned((segments) => [...segments]),
      { looked },
    );
    for (const chunk of [1, 7, 100]) {
      expect(difference(await expectSame(listed, { chunk, looked }), plain)).toBeGreaterThan(1e-3);
      expect(difference(await expectSame(odd, { chunk, looked }), plain)).toBeLessThan(TOLERANCE.reference);
    }
  });

  it("a prefix within one chunk sees itself whole, forwards too", async () => {
    const prefix = 12;
    const bidirectional = planned((segments) =>
      segments.flatMap((segment) => [
        {
          ...segment,
          tokens: { from: 0, to: prefix },
          queries: { from: 0, to: prefix },
          band: { from: -Infinity, to: Infinity },
        },
        { ...segment, queries: { from: prefix, to: Infinity } },
      ]),
    );
    const logits = await expectSame(bidirectional, { chunk: 20, looked });
    expect(
      difference(
        logits,
        await expectSame(
          planned((segments) => [...segments]),
          { chunk: 20, looked },
        ),
      ),
    ).toBeGreaterThan(1e-2);
    // With every band turned round, the first query's last layer sees what the last one's does.
    const backwards = planned((segments) =>
      segments.map((segment) => ({ ...segment, band: { from: -Infinity, to: 1 }, tokens: { from: 0, to: 30 } })),
    );
    await expectSame(backwards, { chunk: 30, looked, count: 30 });
  });

  it("a temperature multiplies the scores of its query: zero makes every token weigh the same", async () => {
    const flat = planned(
      (segments) => [...segments],
      (query) => (query < 30 ? 1 : 0),
    );
    const logits = await expectSame(flat, { looked });
    const plain = await expectSame(
      planned((segments) => [...segments]),
      { looked },
    );
    expect(difference(rows(logits, 0, 30), rows(plain, 0, 30))).toBeLessThan(TOLERANCE.reference);
    expect(difference(rows(logits, 30, 60), rows(plain, 30, 60))).toBeGreaterThan(1e-3);
    await expectSame(
      planned(
        (segments) => [...segments],
        (query) => 0.5 + (query % 7) / 3,
      ),
      { looked },
    );
  });

  it("chunks of more queries than a tile has are computed in tiles", async () => {
    const window = planned((segments) => segments.map((segment) => ({ ...segment, band: { from: 0, to: 9 } })));
    const whole = await expectSame(window, { chunk: 160, looked, count: 160 });
    expect(difference(await expectSame(window, { chunk: 13, looked, count: 160 }), whole)).toBeLessThan(
      TOLERANCE.reference,
    );
    const hidden = planned((segments) => segments.map((segment) => ({ ...segment, queries: { from: 0, to: 100 } })));
    await expectSame(hidden, { chunk: 160, looked, count: 160 });
  });
});

it("layers may differ, and share a plan where they do not", async () => {
  const made: AttentionPlan[] = [];
  const config = { layerCount: 4, slidingWindows: [null, 9, null, 9] };
  const { reference } = tinyModels(config);
  const watched: Method = {
    ...planned((segments, { layer }) => (layer === 2 ? segments.slice(1) : [...segments])),
    hook: { layers: () => true, create: () => stateless({ plan: (plan) => (made.push(plan), plan) }) },
  };
  await reference.session({ method: watched }).prefill(ids.slice(0, 20));
  expect(made.map(({ segments }) => segments.map(({ band }) => band.to))).toEqual([[Infinity], [9], [], [9]]);
  expect(made[3]).toBe(made[1]);
});

/** Remembers nothing, and tells what was attended. */
class Watch implements MethodState {
  readonly rows: Float32Array[] = [];
  attended(_: LayerView, attended: Float32Array): Float32Array {
    this.rows.push(attended.slice());
    return attended;
  }
  fork(): Watch {
    return new Watch();
  }
  save(): Uint8Array {
    return new Uint8Array();
  }
  restore(): void {}
  truncate(): void {}
}

it.each(DEVICES)("what a blind query attends to is zero and not nearly so: %s", async (device) => {
  const watch = new Watch();
  const blind: Method = {
    ...planned((segments) =>
      segments.map((segment) => ({ ...segment, tokens: EVERYTHING, queries: { from: 0, to: 5 } })),
    ),
    hook: { layers: () => true, create: () => watch },
  };
  await models[device].session({ method: blind, chunk: 8, capacity: 16 }).prefill(ids.slice(0, 16));
  expect(watch.rows).toHaveLength(4);
  const size = 4 * 8;
  watch.rows.forEach((row, call) => {
    const begin = call < 2 ? 5 : 0;
    expect(row.subarray(begin * size).every((value) => value === 0)).toBe(true);
    expect(row.subarray(0, begin * size).every((value) => value !== 0)).toBe(true);
  });
});
