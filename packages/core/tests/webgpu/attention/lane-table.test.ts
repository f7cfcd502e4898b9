import { describe, expect, it } from "vitest";
import { constantPosition, makeTable, SlotMap, type AttentionPlan } from "@longctx/core";
import { RAW, rotation, UNROTATED } from "../../../src/positions/rotation.ts";
import { anglesOf, turnTables } from "../../../src/webgpu/attention/angle-tables.ts";
import { keyRotations } from "../../../src/state/key-copies.ts";
import { attentionTables, type SectionName } from "../../../src/webgpu/attention/lane-table.ts";
import { causal, tableOf } from "./attention-plans.ts";

const table = tableOf(3);
const far = causal(table, {
  band: { from: 8, to: Infinity },
  queryPosition: constantPosition(8),
  keyPosition: constantPosition(0),
});
const reRope: AttentionPlan = { segments: [causal(table, { band: { from: 0, to: 8 } }), far] };
const places = new Map([
  [`${table.id}|text`, 2],
  [RAW, 0],
]);

function tablesOf(plan: AttentionPlan, first: number, count: number, changes: object = {}) {
  const slots = new SlotMap({ capacity: 128, pinned: 128 });
  slots.append(first + count);
  const tables = attentionTables({
    plan,
    slots,
    first,
    count,
    headSize: 8,
    pairs: 3,
    places,
    tileRows: 16,
    ...changes,
  });
  const words = (name: SectionName, length: number) =>
    Array.from(new Int32Array(tables.bytes.buffer, tables.sections[name].offset, length));
  const floats = (name: SectionName, length: number) =>
    Array.from(new Float32Array(tables.bytes.buffer, tables.sections[name].offset, length));
  return { tables, words, floats };
}

describe("keyRotations", () => {
  it("is each copy once, raw keys too where they are asked for or nothing else is kept", () => {
    expect(keyRotations(reRope).map(({ id }) => id)).toEqual([`${table.id}|text`, RAW]);
    expect(keyRotations({ segments: [causal(table)] }, true).map(({ id }) => id)).toEqual([`${table.id}|text`, RAW]);
    expect(keyRotations({ segments: [] })).toEqual([UNROTATED]);
  });
});

describe("tables of a tiled chunk", () => {
  it("are tiles, and of each the lanes that some row sees", () => {
    const { tables, words } = tablesOf(reRope, 20, 20);
    expect(tables).toMatchObject({
      path: "tiled",
      workCount: 2,
      partCount: 0,
      queryRotations: 2,
      keyCopies: 2,
      first: 20,
      count: 20,
    });
    const [row0, rows0, begin0, end0, , , row1, rows1, begin1, end1] = words("work", 12);
    expect([row0, rows0, begin0, row1, rows1]).toEqual([0, 16, 0, 16, 4]);
    expect(begin1).toBe(end0);
    const lanes = words("lanes", 10 * end1);
    const seen = Array.from({ length: end1 }, (_, i) => lanes.slice(10 * i, 10 * i + 10));
    const rotations = new Map(seen.map(([, , , place, by]) => [place, by]));
    expect([...rotations.values()].sort((a, b) => a - b)).toEqual([0, 1]); // near and far keys meet queries turned in two ways
    for (const [slot, , token, place, by, listed, bandFrom, bandTo, from, to] of seen) {
      expect(slot).toBe(token);
      expect(listed).toBe(0);
      expect(by).toBe(rotations.get(place));
      expect([bandFrom, bandTo]).toEqual(place === 2 ? [0, 8] : [8, 2 ** 30]);
      expect([from, to]).toEqual([-(2 ** 30), 2 ** 30]);
    }
    // Rows 16 to 19 are tokens 36 to 39: near ones from 29 on, far ones up to 31.
    const near = seen.slice(begin1).filter(([, , , place]) => place === 2);
    expect(Math.min(...near.map(([slot]) => slot))).toBe(29);
    expect(near.reduce((sum, [, count]) => sum + count, 0)).toBe(11);
  });

  it("are ranges of keys where tiles are few, the longest first, and of each row the parts that it gets", () => {
    const { tables, words } = tablesOf(reRope, 80, 20, { ranges: { wanted: 6, shortest: 32 } });
    const items = Array.from({ length: tables.workCount }, (_, i) => words("work", 6 * (i + 1)).slice(6 * i));
    const ends = words("lanes", 10 * Math.max(...items.map(([, , , end]) => end)));
    const spans = items.map(([row, , begin, end]) => {
      const lanes = Array.from({ length: end - begin }, (_, i) => ends.slice(10 * (begin + i), 10 * (begin + i) + 10));
      const width = lanes.reduce((sum, [, count]) => sum + count, 0);
      return { row, width, tokens: lanes.flatMap(([, count, token]) => Array.from({ length: count }, (_, j) => token + j)) }; // prettier-ignore
    });
    // Of 96 and 100 tokens, in some lanes twice: a row near the end of its tile has a near key where others have a far one.
    for (const first of [0, 16]) {
      const seen = spans.filter(({ row }) => row === first).flatMap(({ tokens }) => tokens);
      expect([...new Set(seen)].sort((a, b) => a - b)).toEqual(Array.from({ length: first === 0 ? 96 : 100 }, (_, i) => i)); // prettier-ignore
    }
    const widths = spans.map(({ width }) => width);
    expect(widths).toEqual([...widths].sort((a, b) => b - a));
    expect(Math.max(...widths)).toBeLessThanOrEqual(64);
    expect(tables.workCount).toBeGreaterThanOrEqual(4);
    // Parts of a row lie together, and each is written by one item.
    const ranges = words("ranges", 40);
    const written = items.flatMap(([, rows, , , part, step]) =>
      Array.from({ length: rows }, (_, r) => part + r * step),
    );
    expect(written.sort((a, b) => a - b)).toEqual(Array.from({ length: tables.partCount }, (_, i) => i));
    expect(ranges[0]).toBe(0);
    expect(ranges[39]).toBe(tables.partCount);
    for (let row = 1; row < 20; row++) expect(ranges[2 * row]).toBe(ranges[2 * row - 1]);
  });

  it("do not grow with queries times keys", () => {
    const sizes = [16, 32, 48].map((count) => tablesOf(reRope, 0, count).tables);
    const bytes = sizes.map(({ sections }) => sections.lanes.size + sections.lists.size + sections.work.size);
    expect(Math.max(...bytes)).toBeLessThanOrEqual(3 * 1024);
  });

  it("say where rows go and how scores grow", () => {
    const temperature = { id: "t", at: (token: number) => token };
    const { tables, words, floats } = tablesOf({ ...reRope, temperature }, 5, 3);
    expect(words("rows", 6).filter((_, i) => i % 2 === 0)).toEqual([5, 6, 7]);
    const scale = Math.LOG2E / Math.sqrt(8);
    floats("rows", 6)
      .filter((_, i) => i % 2 === 1)
      .forEach((factor, t) => expect(factor).toBeCloseTo((5 + t) * scale, 6));
    const targets = words("targets", 4);
    expect([targets[1], targets[3]]).toEqual([2, 0]);
    expect(tables.sections.angles.offset % 256).toBe(0);
  });
});

describe("tables of a few queries", () => {
  it("are pieces that hold every key a row sees once, and nothing else", () => {
    const { tables, words } = tablesOf(reRope, 50, 2, {
      tileRows: null,
      pieces: { longest: 32, shortest: 32, wanted: 4 },
    });
    const pieces = words("work", 6 * tables.workCount);
    const [begin0, end0, begin1, end1] = words("ranges", 4);
    expect([begin0, end0, end1]).toEqual([0, begin1, tables.workCount]);
    for (const [row, begin, end] of [
      [0, begin0, end0],
      [1, begin1, end1],
    ]) {
      const slots: number[] = [];
      for (let i = begin; i < end; i++) {
        const [slot, count, place, , of] = pieces.slice(6 * i, 6 * i + 6);
        expect(of).toBe(row);
        expect(count).toBeLessThanOrEqual(32);
        for (let j = 0; j < count; j++) {
          slots.push(slot + j);
          expect(place).toBe(50 + row - (slot + j) < 8 ? 2 : 0);
        }
      }
      expect(slots.sort((a, b) => a - b)).toEqual(Array.from({ length: 51 + row }, (_, i) => i));
    }
  });

  it("keep a list as it is", () => {
    const tokens = Int32Array.of(3, 9, 10, 49, 50, 51, 60);
    const { tables, words } = tablesOf({ segments: [causal(table, { tokens })] }, 50, 1, { tileRows: null });
    expect(tables.workCount).toBe(1);
    expect(words("work", 6)).toEqual([0, 5, 2, 0, 0, 1]);
    expect(words("lists", 10)).toEqual([3, 3, 9, 9, 10, 10, 49, 49, 50, 50]);
  });

  it("of a plan that shows nothing are no pieces", () => {
    const { tables, words } = tablesOf({ segments: [] }, 3, 2, { tileRows: null });
    expect(tables).toMatchObject({ path: "split", workCount: 0, queryRotations: 0, keyCopies: 1 });
    expect(words("ranges", 4)).toEqual([0, 0, 0, 0]);
  });

  it("without attention only say what is stored", () => {
    expect(tablesOf(reRope, 3, 2, { attend: false }).tables).toMatchObject({
      path: "none",
      workCount: 0,
      keyCopies: 2,
    });
  });
});

it("angles are exact at position 100,000", () => {
  const pairs = 32;
  const slow = makeTable(Float64Array.from({ length: pairs }, (_, i) => 10_000 ** (-i / pairs)));
  const by = rotation(slow, { id: "text", at: (token) => token });
  const made = anglesOf([by], [99_999, 100_000], pairs);
  for (let i = 0; i < pairs; i++) {
    const angle = 100_000 * slow.inverse[i];
    expect(made[2 * (pairs + i)]).toBe(Math.fround(Math.cos(angle)));
    expect(made[2 * (pairs + i) + 1]).toBe(Math.fround(Math.sin(angle)));
  }
});

it("a table of another rotary size is refused", () => {
  expect(() => anglesOf([rotation(tableOf(4), { id: "text", at: (n) => n })], [0], 3)).toThrow(
    /has 4 pairs.*rotates 3/,
  );
});

it("turns cover the held tokens of a range, some at a time, by the difference of the angles", () => {
  const slots = new SlotMap({ capacity: 10, pinned: 2 });
  for (let i = 0; i < 5; i++) slots.append(3);
  const text = rotation(table, { id: "text", at: (n) => n });
  const half = rotation(table, { id: "half", at: (n) => n / 2 });
  const turned = [...turnTables(slots, { from: 0, to: 14 }, { from: text, to: half, pairs: 3 }, 4)];
  const counts = turned.map(({ count }) => count);
  expect(counts).toEqual([4, 4, 1]);
  const tokens = [0, 1, 7, 8, 9, 10, 11, 12, 13];
  const found = turned.flatMap(({ bytes, sections, count }) =>
    Array.from(new Uint32Array(bytes.buffer, sections.slots.offset, count)),
  );
  expect(found).toEqual(tokens.map((token) => slots.slotOf(token)));
  const last = turned[2];
  const [cos, sin] = new Float32Array(last.bytes.buffer, last.sections.angles.offset, 2);
  expect(cos).toBe(Math.fround(Math.cos((-13 / 2) * 0.9)));
  expect(sin).toBe(Math.fround(Math.sin((-13 / 2) * 0.9)));
});
