import { describe, it } from "vitest";
import * as fc from "fast-check";
import {
  constantPosition,
  makeTable,
  TEXT_POSITION,
  type Method,
  type PositionRule,
  type Segment,
  type TokenRange,
} from "@longctx/core";
import { expectSame, planned } from "./planned.ts";

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
