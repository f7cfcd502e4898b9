import * as fc from "fast-check";
import {
  constantPosition,
  makeTable,
  TEXT_POSITION,
  type AttentionPlan,
  type PositionRule,
  type Segment,
  type Interval,
} from "@longctx/core";
import { tableOf } from "./webgpu/attention/attention-plans.ts";

const RULES: readonly PositionRule[] = [
  TEXT_POSITION,
  constantPosition(0),
  constantPosition(5.5),
  { id: "min(m,9)", at: (m) => Math.min(m, 9) },
  { id: "m/3", at: (m) => Math.floor(m / 3) },
  { id: "m%5", at: (m) => m % 5 },
  { id: "m/4", at: (m) => m / 4 },
];

const cut = (least: number, most: number) =>
  fc
    .uniqueArray(fc.integer({ min: least, max: most }), { maxLength: 2 })
    .map((cuts) => [...cuts].sort((a, b) => a - b));

/** [from, …) cut into consecutive ranges. */
function ranges(from: number, cuts: readonly number[]): Interval[] {
  return [from, ...cuts].map((begin, i) => ({ from: begin, to: cuts[i] ?? Infinity }));
}

/** The plan of a chunk's queries [first, first + count) in a layer. */
export type PlanMaker = (first: number, count: number, layer?: number) => AttentionPlan;

/**
 * Disjoint segments: tokens, distances and queries are cut into pieces, and every piece is looked at in its own way or
 * not at all. `pairs`: d/2; `reach`: distances beyond it are not looked at.
 */
export function randomPlans(pairs: number, reach = Infinity): fc.Arbitrary<PlanMaker> {
  const tables = [tableOf(pairs), tableOf(pairs, 1.2), makeTable(new Float64Array(pairs).fill(0.15))];
  const look = fc.record({
    table: fc.constantFrom(...tables),
    queryPosition: fc.constantFrom(...RULES),
    keyPosition: fc.constantFrom(...RULES),
    hidden: fc.integer({ min: 0, max: 4 }).map((n) => n === 0),
    /** Chunks that have the segment: plans may change from chunk to chunk. */
    every: fc.constantFrom(1, 1, 1, 2),
    /** The layer that lacks the segment. */
    without: fc.constantFrom(null, null, null, 0, 1),
  });
  return fc
    .record({
      tokens: cut(1, 40),
      lists: fc.boolean(),
      bands: cut(1, 30),
      ahead: fc.boolean(),
      queries: cut(1, 50),
      looks: fc.array(look, { minLength: 27, maxLength: 27 }),
      tempered: fc.boolean(),
    })
    .map(({ tokens, lists, bands, ahead, queries, looks, tempered }): PlanMaker => {
      const stretches: Segment["tokens"][] = ranges(0, tokens);
      if (lists && stretches.length > 1) {
        const to = Math.min((stretches[0] as Interval).to, 30);
        stretches[0] = Int32Array.from({ length: to }, (_, n) => n).filter((n) => n % 3 !== 1);
      }
      const plan: PlanMaker = (first, _count, layer) => ({
        segments: stretches.flatMap((stretch, s) =>
          ranges(ahead ? -Infinity : 0, bands).flatMap((band, b) =>
            ranges(0, queries).flatMap((asking, q) => {
              const { hidden, every, without, ...how } = looks[s * 9 + b * 3 + q];
              const near = { from: band.from, to: Math.min(band.to, reach) };
              if (hidden || first % every !== 0 || layer === without || near.from >= near.to) return [];
              return [{ ...how, tokens: stretch, band: near, queries: asking }];
            }),
          ),
        ),
        temperature: tempered ? { id: "tempered", at: (query) => 1 + (query % 3) / 2 } : undefined,
      });
      const said = looks.map(({ table, queryPosition, keyPosition, hidden, every, without }) =>
        hidden ? "hidden" : [tables.indexOf(table), queryPosition.id, keyPosition.id, every, without].join(" "),
      );
      return Object.assign(plan, {
        toString: () => JSON.stringify({ tokens, lists, bands, ahead, queries, tempered, said }),
      });
    });
}
