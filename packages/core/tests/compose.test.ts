import { describe, expect, it } from "vitest";
import {
  among,
  askedBy,
  compose,
  EVERYTHING,
  intersect,
  makeTable,
  sees,
  TEXT_POSITION,
  within,
  type ChunkContext,
  type Method,
  type Segment,
} from "@longctx/core";
import { tinyConfig } from "./tiny-model.ts";

const config = tinyConfig({ slidingWindows: [null, 6] });
const context = { config, trainedWindow: 32 };
const chunk = (layer: number): ChunkContext => ({
  ...context,
  first: 0,
  count: 4,
  length: 4,
  promptLength: 4,
  layer,
});
const half: Method = {
  spec: "half",
  axes: ["visibility"],
  segments: (segments) =>
    segments.map((segment) => within(segment, { from: 0, to: 10 })).filter((segment) => segment !== null),
};
const shifted: Method = {
  spec: "shifted:by=3",
  axes: ["distance"],
  segments: (segments) =>
    segments.map((segment) => ({ ...segment, queryPosition: { id: `${segment.band.to}+3`, at: (m) => m + 3 } })),
};

describe("compose", () => {
  it("of nothing is one causal segment of text positions with the checkpoint's table", () => {
    const { segments, temperature } = compose().plan(chunk(0));
    expect(segments).toHaveLength(1);
    expect(segments[0]).toMatchObject({
      tokens: EVERYTHING,
      band: EVERYTHING,
      queryPosition: TEXT_POSITION,
      keyPosition: TEXT_POSITION,
    });
    expect([...segments[0].table.inverse]).toEqual([0, 1, 2].map((i) => 100 ** (-i / 3)));
    expect(temperature).toBeUndefined();
    expect(compose().spec).toBe("none");
    expect(compose().layout({ ...context, chunk: 4, layer: 0 })).toBeUndefined();
  });

  it("narrows the layers that have a sliding window, unless a method switches it off", () => {
    expect(compose().plan(chunk(1)).segments[0].band).toEqual({ from: 0, to: 6 });
    const grouped: Method = { ...half, disablesSlidingWindow: true };
    expect(compose(half).plan(chunk(1)).segments[0].band).toEqual({ from: 0, to: 6 });
    expect(compose(grouped).plan(chunk(1)).segments[0].band).toEqual({ from: 0, to: 10 });
  });

  it("asks visibility before distance, whatever the order written", () => {
    for (const method of [compose(half, shifted), compose(shifted, half)])
      expect(method.plan(chunk(0)).segments[0].queryPosition.id).toBe("10+3");
    expect(compose(shifted, half).spec).toBe("shifted:by=3+half");
  });

  it("flattens compositions", () => {
    expect(compose(compose(half), compose(shifted)).parts).toEqual([half, shifted]);
  });

  it("multiplies temperatures of one axis claimed once, and takes the first layout", () => {
    const warm: Method = {
      spec: "warm",
      axes: ["temperature"],
      temperature: (m) => m + 2,
      layout: () => ({ capacity: 9, pinned: 1 }),
    };
    const plan = compose(half, warm).plan(chunk(0));
    expect(plan.temperature!.at(5)).toBe(7);
    expect(compose(half, warm).layout({ ...context, chunk: 4, layer: 0 })).toEqual({ capacity: 9, pinned: 1 });
  });

  it("reads at once what any of its methods wants", () => {
    expect(compose(half).readAtOnce).toBe(0);
    expect(compose(half, { ...shifted, readAtOnce: 5 }).readAtOnce).toBe(5);
  });

  it("takes the table of the frequency method for the length asked", () => {
    const table: Method = {
      spec: "table",
      axes: ["frequencies"],
      lengthDependent: true,
      frequencies: ({ length, trainedWindow, rope }) => makeTable(Float64Array.of(length, trainedWindow, rope.base)),
    };
    expect([...compose(table).table(context, 77).inverse]).toEqual([77, 32, 100]);
    expect(compose(table).lengthDependentOn(context)).toBe(true);
  });

  it("refuses two methods on one axis and methods that refuse each other, in both orders", () => {
    const proud: Method = { spec: "proud:of=1", axes: ["temperature"], conflicts: { shifted: "it says so" } };
    expect(() => compose(half, { ...half, spec: "other" })).toThrow(
      "half and other both change the visibility; only one method can, so leave one of them out.",
    );
    for (const pair of [[proud, shifted], [shifted, proud]]) expect(() => compose(...pair)).toThrow("proud cannot be combined with shifted: it says so."); // prettier-ignore
  });

  it("refuses a table that follows the length beside attention that spans less, in both orders", () => {
    const table: Method = { spec: "table:by=2", axes: ["frequencies"], lengthDependent: true };
    const near: Method = { spec: "near:window=8", axes: ["visibility"], span: 8 };
    for (const pair of [[table, near], [near, table]]) expect(() => compose(...pair)).toThrow("table cannot be combined with near: attention never spans the whole text there, so the table would follow a length that attention never sees."); // prettier-ignore
    expect(() => compose({ ...table, fixedAlternative: "one table" }, near)).toThrow(/never sees; use one table\.$/);
    expect(compose(table, { ...near, span: Infinity }).parts).toHaveLength(2);
    expect(compose({ ...table, lengthDependent: false }, near).parts).toHaveLength(2);
    expect(compose({ ...table, span: 8 }).parts).toHaveLength(1);
  });

  it("hands the model to every check", () => {
    const picky: Method = { spec: "picky", axes: [], check: ({ trainedWindow }) => expect(trainedWindow).toBe(32) };
    compose(half, picky).check(context);
    expect.assertions(1);
  });
});

describe("segments", () => {
  const segment: Segment = {
    tokens: { from: 2, to: 8 },
    table: makeTable(Float64Array.of(1)),
    queryPosition: TEXT_POSITION,
    keyPosition: TEXT_POSITION,
    band: { from: 1, to: 5 },
  };

  it("are seen inside their tokens, their band and their queries", () => {
    const seen = (m: number) => Array.from({ length: 12 }, (_, n) => n).filter((n) => sees(segment, m, n));
    expect(seen(6)).toEqual([2, 3, 4, 5]);
    expect(seen(9)).toEqual([5, 6, 7]);
    expect(seen(2)).toEqual([]);
    expect(sees({ ...segment, queries: { from: 7, to: 9 } }, 6, 4)).toBe(false);
    expect(sees({ ...segment, queries: { from: 7, to: 9 } }, 7, 4)).toBe(true);
    expect(sees({ ...segment, tokens: Int32Array.of(3, 5) }, 6, 4)).toBe(false);
    expect(sees({ ...segment, tokens: Int32Array.of(3, 5) }, 6, 5)).toBe(true);
  });

  it("are narrowed by bands, tokens and queries, to nothing where nothing is left", () => {
    expect(intersect({ from: 0, to: 5 }, { from: 3, to: Infinity })).toEqual({ from: 3, to: 5 });
    expect(within(segment, { from: 3, to: 9 })?.band).toEqual({ from: 3, to: 5 });
    expect(within(segment, { from: 5, to: 9 })).toBeNull();
    expect(among(segment, { from: 0, to: 4 })?.tokens).toEqual({ from: 2, to: 4 });
    expect(among(segment, { from: 0, to: 2 })).toBeNull();
    const list = { ...segment, tokens: Int32Array.of(3, 5, 9) };
    expect(among(list, { from: 4, to: 9 })?.tokens).toEqual(Int32Array.of(5));
    expect(among(list, { from: 6, to: 9 })).toBeNull();
    expect(askedBy(segment, { from: 4, to: Infinity })?.queries).toEqual({ from: 4, to: Infinity });
    const asked = { ...segment, queries: { from: 3, to: 6 } };
    expect(askedBy(asked, { from: 4, to: 9 })?.queries).toEqual({ from: 4, to: 6 });
    expect(askedBy(asked, { from: 6, to: 9 })).toBeNull();
  });
});
