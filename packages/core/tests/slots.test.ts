import { describe, expect, it } from "vitest";
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { LongctxError, SlotMap, type RingLayout } from "@longctx/core";

/** What a cache is, without arithmetic: an array of slots, filled one token at a time. */
class NaiveSlots {
  readonly slots: (number | null)[];
  length = 0;
  readonly #layout: RingLayout;

  constructor(layout: RingLayout) {
    this.#layout = layout;
    this.slots = Array.from({ length: layout.capacity }, () => null);
  }

  append(count: number): void {
    const { capacity, pinned } = this.#layout;
    for (let i = 0; i < count; i++) {
      const free = this.slots.indexOf(null);
      const oldest = Math.min(...this.slots.slice(pinned).map((token) => token ?? Infinity));
      this.slots[free >= 0 && free < capacity ? free : this.slots.indexOf(oldest)] = this.length++;
    }
  }
}

const layouts: fc.Arbitrary<RingLayout> = fc
  .integer({ min: 1, max: 12 })
  .chain((capacity) => fc.record({ capacity: fc.constant(capacity), pinned: fc.integer({ min: 0, max: capacity }) }));
const chunks = fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 12 });

/** Both maps after the same appends; chunks that do not fit are left out. */
function filled(layout: RingLayout, counts: readonly number[]): { map: SlotMap; naive: NaiveSlots } {
  const map = new SlotMap(layout);
  const naive = new NaiveSlots(layout);
  for (const count of counts) {
    const ring = layout.capacity - layout.pinned;
    const fits =
      ring === 0 ? map.length + count <= layout.capacity : count <= ring + Math.max(0, layout.pinned - map.length);
    if (fits) {
      map.append(count);
      naive.append(count);
    } else assert.throws(() => map.append(count), LongctxError);
  }
  return { map, naive };
}

describe("SlotMap", () => {
  it("places tokens as a cache that is filled one by one", () => {
    fc.assert(
      fc.property(layouts, chunks, (layout, counts) => {
        const { map, naive } = filled(layout, counts);
        expect(map.length).toBe(naive.length);
        const tokens = Array.from({ length: map.length + 2 }, (_, i) => i - 1);
        const held = tokens.filter((token) => map.holds(token));
        expect(held).toEqual(tokens.filter((token) => naive.slots.includes(token)));
        expect(held.map((token) => naive.slots[map.slotOf(token)])).toEqual(held);
      }),
    );
  });

  it("lists the slots of a range in order of the text, each once, in the fewest runs", () => {
    fc.assert(
      fc.property(
        layouts,
        chunks,
        fc.integer({ min: -2, max: 40 }),
        fc.integer({ min: 0, max: 40 }),
        (layout, counts, from, size) => {
          const { map, naive } = filled(layout, counts);
          const runs = map.runs(from, from + size);
          const listed = runs.flatMap((run) =>
            Array.from({ length: run.to - run.from }, (_, i) => [run.token + i, naive.slots[run.from + i]]),
          );
          const held = naive.slots
            .filter((token) => token !== null && token >= from && token < from + size)
            .sort((a, b) => a! - b!);
          expect(listed).toEqual(held.map((token) => [token, token]));
          runs
            .slice(1)
            .forEach((run, i) =>
              expect(run.token === runs[i].token + (runs[i].to - runs[i].from) && run.from === runs[i].to).toBe(false),
            );
        },
      ),
    );
  });

  it("appends to the slots it then lists", () => {
    const map = new SlotMap({ capacity: 7, pinned: 2 });
    expect(map.append(4)).toEqual([{ from: 0, to: 4, token: 0 }]);
    expect(map.append(5)).toEqual([{ from: 4, to: 7, token: 4 }, { from: 2, to: 4, token: 7 }]); // prettier-ignore
    expect(map.oldest()).toBe(4);
    expect([0, 1, 2, 3, 4, 8, 9].map((token) => map.holds(token))).toEqual([
      true,
      true,
      false,
      false,
      true,
      true,
      false,
    ]);
  });

  it("truncates while nothing was evicted: what follows goes where it would have gone", () => {
    fc.assert(
      fc.property(layouts, fc.nat(12), fc.nat(12), fc.nat(12), (layout, before, length, after) => {
        fc.pre(length <= before && before <= layout.capacity && length + after <= layout.capacity);
        const map = new SlotMap(layout);
        for (let i = 0; i < before; i++) map.append(1);
        map.truncate(length);
        expect(map.runs(0, before)).toEqual(length > 0 ? [{ from: 0, to: length, token: 0 }] : []);
        for (let i = 0; i < after; i++) map.append(1);
        expect(map.runs(0, 24)).toEqual(length + after > 0 ? [{ from: 0, to: length + after, token: 0 }] : []);
      }),
    );
  });

  it("refuses to truncate once a token was evicted, and keeps what it has", () => {
    fc.assert(
      fc.property(layouts, fc.nat(20), fc.nat(40), (layout, more, length) => {
        const before = layout.capacity + 1 + more;
        fc.pre(layout.pinned < layout.capacity && length < before);
        const map = new SlotMap(layout);
        for (let i = 0; i < before; i++) map.append(1);
        expect(() => map.truncate(length)).toThrow(/evicted/);
        expect(map.length).toBe(before);
        map.truncate(before);
      }),
    );
  });

  it("with a reach truncates while so many tokens before the new end are held", () => {
    const read = (count: number) => {
      const map = new SlotMap({ capacity: 8, pinned: 0, reach: 3 });
      for (let i = 0; i < count; i++) map.append(1);
      return map;
    };
    const map = read(20); // tokens 12 to 19 are held
    expect(() => map.truncate(14)).toThrow(/before 12 were evicted/);
    map.truncate(15);
    expect([map.length, map.oldest(), map.holds(11), map.holds(12), map.holds(15)]).toEqual([
      15,
      12,
      false,
      true,
      false,
    ]);
    map.append(2); // over tokens that the text no longer has
    expect([map.oldest(), map.holds(12), map.holds(16)]).toEqual([12, true, true]);
    map.append(6);
    expect(map.oldest()).toBe(15);
    map.truncate(0);
    map.append(3);
    expect([map.oldest(), map.holds(0), map.holds(2)]).toEqual([0, true, true]);
  });

  it("forks into maps that do not touch each other", () => {
    const map = new SlotMap({ capacity: 4, pinned: 4 });
    map.append(2);
    const copy = map.fork();
    copy.append(2);
    expect([map.length, copy.length]).toEqual([2, 4]);
  });

  it.each([0, -1, 1.5, Number.NaN, Infinity])("refuses a capacity of %d", (capacity) => {
    expect(() => new SlotMap({ capacity, pinned: 0 })).toThrow(LongctxError);
  });

  it.each([-1, 5, 1.5, Number.NaN])("refuses to pin %d of 4 slots", (pinned) => {
    expect(() => new SlotMap({ capacity: 4, pinned })).toThrow(LongctxError);
  });

  it.each([-1, 3, 0.5, Number.NaN])("refuses to truncate 2 tokens to %d", (length) => {
    const map = new SlotMap({ capacity: 4, pinned: 4 });
    map.append(2);
    expect(() => map.truncate(length)).toThrow(/whole number from 0 to 2/);
  });

  it("names what does not fit", () => {
    expect(() => new SlotMap({ capacity: 4, pinned: 4 }).append(5)).toThrow(/has 5 tokens, but the cache holds 4/);
    expect(() => new SlotMap({ capacity: 4, pinned: 2 }).append(5)).toThrow(
      /chunk of 5 tokens does not fit the 2 moving slots/,
    );
  });
});
