import { describe, expect, it } from "vitest";
import { ChosenRows, constantPosition, SlotMap, type Choice, type Segment } from "@longctx/core";
import { RAW } from "../../../src/positions/rotation.ts";
import { Rotations } from "../../../src/webgpu/attention/work-tables.ts";
import { massLanes } from "../../../src/webgpu/choice/mass-lanes.ts";
import { NONE } from "../../../src/webgpu/sparse/run-tables.ts";
import { chosenRows, sparseTables, type SparseSection } from "../../../src/webgpu/sparse/sparse-tables.ts";
import { causal, shapeOf, tableOf } from "../attention/attention-plans.ts";

const table = tableOf(3);
const far = { queryPosition: constantPosition(8), keyPosition: constantPosition(0), band: { from: 9, to: Infinity } };
const shape = shapeOf({ queryHeads: 6, keyHeads: 3 });
const places = new Map([
  [`${table.id}|text`, 2],
  [RAW, 0],
]);

function chunkOf(segments: readonly Segment[], layout = { capacity: 64, pinned: 64 }) {
  const slots = new SlotMap(layout);
  for (let i = 0; i < 10; i++) slots.append(4);
  return { plan: { segments }, slots, first: 36, count: 4, places };
}

function tablesOf(segments: readonly Segment[], layout?: { capacity: number; pinned: number }) {
  const queries = new Rotations();
  const tables = sparseTables({ ...chunkOf(segments, layout), shape }, queries);
  const words = (name: SparseSection, length: number) =>
    Array.from(new Uint32Array(tables.bytes.buffer, tables.sections[name].offset, length));
  const run = (i: number) => words("runs", 17 * (i + 1)).slice(17 * i);
  return { tables, queries, words, run };
}

const choice: Choice = {
  id: "some",
  size: 2,
  from: 3,
  candidates: 12,
  count: 4,
  asking: { from: 37, to: 60 },
  each: { beyond: 9 },
  share: "group",
  table,
  queryPosition: constantPosition(8),
  keyPosition: constantPosition(0),
};

/** A segment for a rank of the blocks, whose queries are so far before their index. */
const rankAt = (rank: number, back: number, changes: Partial<Segment> = {}): Segment => ({
  ...causal(table),
  ...far,
  queryPosition: { id: `m−${back}`, at: (m) => m - back },
  tokens: { choice, ranks: { from: rank, to: rank + 1 } },
  ...changes,
});

describe("the tables of sparse attention", () => {
  it("have room for a list of each row that asks and each key head", () => {
    const { tables, run } = tablesOf([{ ...causal(table), ...far, tokens: { choice, ranks: { from: 0, to: 9 } } }]);
    expect(tables.rowLists).toMatchObject([{ rows: { from: 1, to: 4 }, heads: 3, answers: 3, at: 0, asking: null }]);
    expect(tables.entries).toBe(3 * 3 * 4);
    expect(tables.joint).toEqual([{ from: 0, to: 1, given: false, keys: 8 }]);
    // List, lists and entries; answers and rows; blocks; ranks; keys and queries; no turn; band.
    expect(run(0)).toEqual([0, 3, 4, 3, 1, 1, 4, 3, 2, 0, 4, 0, 0, NONE, 0, 9, 2 ** 30]);
  });

  it("turn one rotation of queries for ranks at a constant distance, and keep others", () => {
    const { tables, queries, run, words } = tablesOf([
      rankAt(0, 30),
      rankAt(1, 20),
      rankAt(2, 10),
      rankAt(3, 0, { queryPosition: { id: "half", at: (m) => m / 2 } }),
    ]);
    // The choice's own, the first rank's, and the one that is not at a constant distance from it.
    expect(queries.list.map(({ rule }) => rule.id)).toEqual(["8", "m−30", "half"]);
    expect(tables.joint).toEqual([{ from: 0, to: 3, given: false, keys: 8 }]);
    const seen = [0, 1, 2].map((i) => run(i).slice(9, 15));
    expect(seen).toEqual([[0, 1, 0, 1, NONE, 0], [1, 3, 0, 1, 0, 1], [3, 4, 0, 2, NONE, 0]]); // prettier-ignore
    const turns = new Float32Array(Uint32Array.from(words("turns", 12)).buffer);
    expect(turns[0]).toBeCloseTo(Math.cos(10 * table.inverse[0]), 6);
    expect(turns[7]).toBeCloseTo(Math.sin(20 * table.inverse[0]), 6);
  });

  it("take over the lists of a hook: once where rows share them, and without evicted tokens", () => {
    const list = (...tokens: number[]) => Int32Array.from(tokens);
    const alike = [list(1, 5, 30), list(2), list()];
    const shared = new ChosenRows(36, 4, 3, [...alike, ...alike, ...alike, ...alike]);
    const own = new ChosenRows(38, 2, 1, [list(4), list(29, 31)]);
    const segments = [shared, own].map((tokens) => ({ ...causal(table), ...far, tokens }));
    const { tables, run, words } = tablesOf(segments, { capacity: 20, pinned: 2 });
    expect(tables.joint).toEqual([{ from: 0, to: 2, given: true, keys: 4 }]);
    expect(words("lists", 10)).toEqual([1, 30, NONE, NONE, NONE, NONE, NONE, NONE, 29, 31]);
    expect(run(0).slice(0, 7)).toEqual([0, 3, 2, 1, 0, 0, 4]);
    expect(run(1).slice(0, 7)).toEqual([6, 1, 2, 2, 2, 2, 4]);
  });

  it("are read back as the blocks of each row", () => {
    const { tables } = tablesOf([rankAt(0, 0)]);
    const entries = Array.from({ length: 36 }, (_, i) => (i % 4 < 2 ? Math.floor(i / 4) + (i % 4) : NONE));
    const rows = chosenRows(tables.rowLists[0], Uint32Array.from(entries), 36);
    expect([rows.first, rows.count, rows.heads]).toEqual([37, 3, 3]);
    expect([...rows.list(2, 1)]).toEqual([7, 8]);
    const shared = chosenRows({ ...tables.rowLists[0], answers: 1 }, Uint32Array.from(entries), 36);
    expect(shared.list(2, 1)).toBe(shared.list(0, 1));
  });
});

describe("the lanes of attention masses", () => {
  it("are runs of tokens within the band, of lists too", () => {
    const { tokens, words } = massLanes(
      {
        ...chunkOf([causal(table, { tokens: Int32Array.of(3, 28, 29, 31), band: { from: 2, to: 50 } })]),
        band: 10,
      },
      new Rotations(),
    );
    expect(tokens).toEqual({ from: 27, to: 40 });
    expect([...words]).toEqual([28, 2, 28, 2, 0, 2, 10, 36, 40, 31, 1, 31, 2, 0, 2, 10, 36, 40]);
  });

  it.each([
    ["by each query", { each: { beyond: 8 } }],
    ["by a group", { each: undefined, candidates: 13 }], // up to token 28
  ])("are refused where tokens within the band are chosen: %s", (_, changes) => {
    const tokens = { choice: { ...choice, ...changes }, ranks: { from: 0, to: 4 } };
    const request = { ...chunkOf([{ ...causal(table), ...far, band: { from: 0, to: Infinity }, tokens }]), band: 9 };
    expect(() => massLanes(request, new Rotations())).toThrow(/at distances below 9, where queries choose tokens too/);
    expect(massLanes({ ...request, band: 8 }, new Rotations()).laneCount).toBe(0);
  });
});
