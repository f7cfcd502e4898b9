import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import {
  Capture,
  constantPosition,
  EVERYTHING,
  makeTable,
  TEXT_POSITION,
  type AttentionPlan,
  type LayerView,
  type Method,
  type MethodState,
  type PositionRule,
  type Segment,
  type TokenRange,
} from "@longctx/core";
import { DEVICES, difference, tinyIds, tinyModels, TOLERANCE } from "./devices.ts";

const models = tinyModels();
const ids = tinyIds(160);

/** Any plan as a method. */
function planned(segments: NonNullable<Method["segments"]>, temperature?: Method["temperature"]): Method {
  return { spec: "planned", axes: ["visibility", "distance", "temperature"], segments, temperature };
}

interface Reading {
  readonly chunk?: number;
  readonly looked?: boolean;
  readonly count?: number;
}

/** All logits on both devices, and that they agree. */
async function expectSame(
  method: Method,
  { chunk = 16, looked = false, count = 60 }: Reading = {},
): Promise<Float32Array> {
  const [reference, cpu] = await Promise.all(
    DEVICES.map((device) =>
      models[device].session({ method, chunk, capacity: 256 }).prefill(ids.slice(0, count), {
        logitRows: count,
        capture: looked ? new Capture({ layers: [0, 1] }) : undefined,
      }),
    ),
  );
  expect(difference(cpu, reference)).toBeLessThan(1e-4);
  return reference;
}

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

const rules: readonly PositionRule[] = [
  TEXT_POSITION,
  constantPosition(0),
  constantPosition(5.5),
  { id: "min(m,9)", at: (m) => Math.min(m, 9) },
  { id: "m/3", at: (m) => Math.floor(m / 3) },
  { id: "m%5", at: (m) => m % 5 },
  { id: "m/4", at: (m) => m / 4 },
];
const tables = [
  makeTable(Float64Array.of(1, 0.2, 0.04)),
  makeTable(Float64Array.of(0.5, 0.1, 0.01), 1.2),
  makeTable(Float64Array.of(1, 0.15, 0.02)),
];
const cut = (least: number, most: number) =>
  fc
    .uniqueArray(fc.integer({ min: least, max: most }), { maxLength: 2 })
    .map((cuts) => [...cuts].sort((a, b) => a - b));

/** [−∞ or the first, …) cut into consecutive ranges. */
function ranges(from: number, cuts: readonly number[]): TokenRange[] {
  return [from, ...cuts].map((begin, i) => ({ from: begin, to: cuts[i] ?? Infinity }));
}

const look = fc.record({
  table: fc.constantFrom(...tables),
  queryPosition: fc.constantFrom(...rules),
  keyPosition: fc.constantFrom(...rules),
  hidden: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
  /** Chunks that have the segment; plans may change from chunk to chunk. */
  every: fc.constantFrom(1, 1, 1, 2),
  /** Layers that lack the segment. */
  without: fc.constantFrom(null, null, null, 0, 1),
});

/** Disjoint segments: tokens, distances and queries are each cut into pieces, and every piece is looked at in its own way. */
const randomPlan = fc
  .record({
    tokens: cut(1, 40),
    lists: fc.boolean(),
    bands: cut(1, 30),
    ahead: fc.boolean(),
    queries: cut(1, 50),
    looks: fc.array(look, { minLength: 27, maxLength: 27 }),
    tempered: fc.boolean(),
  })
  .map(({ tokens, lists, bands, ahead, queries, looks, tempered }): Method => {
    const said = looks.map(({ table, queryPosition, keyPosition, hidden, every, without }) =>
      hidden ? "hidden" : [tables.indexOf(table), queryPosition.id, keyPosition.id, every, without].join(" "),
    );
    const spec = JSON.stringify({ tokens, lists, bands, ahead, queries, tempered, said });
    const pieces: Segment["tokens"][] = ranges(0, tokens);
    if (lists && pieces.length > 1) {
      const to = Math.min((pieces[0] as TokenRange).to, 30);
      pieces[0] = Int32Array.from({ length: to }, (_, n) => n);
    }
    const method = planned(
      (_, { first, layer }) =>
        pieces
          .flatMap((piece, p) =>
            ranges(ahead ? -Infinity : 0, bands).flatMap((band, b) =>
              ranges(0, queries).map((asking, q) => {
                const { hidden, every, without, ...how } = looks[p * 9 + b * 3 + q];
                return hidden || first % every !== 0 || layer === without
                  ? null
                  : { ...how, tokens: piece, band, queries: asking };
              }),
            ),
          )
          .filter((segment) => segment !== null),
      tempered ? (query) => 1 + (query % 3) / 2 : undefined,
    );
    return { ...method, spec };
  });

it("layers may differ, and share a plan where they do not", async () => {
  const made: AttentionPlan[] = [];
  const config = { layerCount: 4, slidingWindows: [null, 9, null, 9] };
  const { reference } = tinyModels(config);
  const watched: Method = {
    ...planned((segments, { layer }) => (layer === 2 ? segments.slice(1) : [...segments])),
    select: { layers: () => true, plan: (plan) => (made.push(plan), plan) },
  };
  await reference.session({ method: watched }).prefill(ids.slice(0, 20));
  expect(made.map(({ segments }) => segments.map(({ band }) => band.to))).toEqual([[Infinity], [9], [], [9]]);
  expect(made[3]).toBe(made[1]);
});

describe("random plans", () => {
  it("are computed as they are defined", async () => {
    await fc.assert(
      fc.asyncProperty(
        randomPlan,
        fc.constantFrom(1, 5, 16, 60),
        fc.boolean(),
        fc.integer({ min: 1, max: 60 }),
        async (method, chunk, looked, count) => {
          await expectSame(method, { chunk, looked, count });
        },
      ),
      { numRuns: 12 },
    );
  });

  it("are computed as they are defined over a ring", async () => {
    const ring = { capacity: 24, pinned: 3 };
    await fc.assert(
      fc.asyncProperty(randomPlan, fc.constantFrom(1, 5, 12), fc.boolean(), async (method, chunk, looked) => {
        // What the ring may have lost by the end of a chunk is not looked at.
        const kept: Method = {
          ...method,
          layout: () => ring,
          segments: (segments, where) =>
            method.segments!(segments, where).flatMap((segment) => {
              const near = { ...segment, band: { from: segment.band.from, to: Math.min(segment.band.to, 10) } };
              return near.band.from < near.band.to ? [near] : [];
            }),
        };
        await expectSame(kept, { chunk, looked, count: 60 });
      }),
      { numRuns: 12 },
    );
  });
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
    memory: { layers: () => true, create: () => watch },
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
