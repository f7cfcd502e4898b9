import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { ListTables, tableBytes } from "../src/cpu/choice/list-tables.ts";
import { runsOfList } from "../src/cpu/choice/list-runs.ts";
import { KernelThreads } from "../src/cpu/wasm/kernel-threads.ts";
import { randomNumbers } from "./tiny-model.ts";

const threads = new KernelThreads(2, 1000);
const { memory, functions } = threads;
const integers = (size: number) => {
  const { address } = memory.allocate(4 * size);
  return { address, data: new Int32Array(memory.memory.buffer, address, size) };
};

/** The largest scores of a row, by sorting all of them: the definition of a choice. */
function best(scores: ArrayLike<number>, limit: number, count: number): number[] {
  const order = Array.from({ length: limit }, (_, column) => column);
  order.sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** Keeps the best of rows [rows, columns], handed over in blocks of `width` columns. */
function keepNearest(
  scores: readonly number[][],
  limits: readonly number[],
  most: number,
  width: number,
  factors?: readonly number[],
): number[][] {
  const rows = scores.length;
  const columns = scores[0].length;
  const stride = width + 3;
  const block = threads.floats(rows * stride + 16);
  const given = threads.floats(columns + 16);
  const [values, kept, counts, limit, job] = [rows * most, rows * most, rows, rows, 11].map(integers);
  counts.data.fill(0);
  for (let from = 0; from < columns; from += width) {
    const some = Math.min(width, columns - from);
    scores.forEach((row, i) => block.data.set(row.slice(from, from + some), i * stride));
    if (factors) given.data.set(factors.slice(from, from + some));
    limits.forEach((all, i) => (limit.data[i] = Math.max(0, Math.min(some, all - from))));
    const where = [limit.address, factors ? given.address : 0, from, values.address, kept.address, counts.address];
    job.data.set([block.address, stride, rows, ...where, most, 3]);
    functions.keepNearest(job.address, Math.ceil(rows / 3));
  }
  functions.sortNearest(kept.address, counts.address, rows, most);
  return scores.map((_, i) => [...kept.data.subarray(i * most, i * most + counts.data[i])]);
}

describe("the nearest", () => {
  it("are those of a sort, ties to the smaller column, whatever the blocks", () => {
    fc.assert(
      fc.property(
        fc.record({
          rows: fc.integer({ min: 1, max: 9 }),
          columns: fc.integer({ min: 1, max: 300 }),
          most: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.constant(90)),
          width: fc.integer({ min: 1, max: 120 }),
          /** Few different scores make many ties. */
          levels: fc.constantFrom(2, 5, 1000),
          weighed: fc.boolean(),
          seed: fc.nat(1000),
        }),
        ({ rows, columns, most, width, levels, weighed, seed }) => {
          const random = randomNumbers(seed);
          const number = () => Math.floor(random() * levels) - levels / 2;
          const scores = Array.from({ length: rows }, () => Array.from({ length: columns }, number));
          const limits = scores.map(() => Math.floor(random() * (columns + 1)));
          const factors = weighed ? Array.from({ length: columns }, () => Math.floor(random() * 3) + 1) : undefined;
          const expected = scores.map((row, i) => best(factors ? row.map((x, j) => x * factors[j]) : row, limits[i], most)); // prettier-ignore
          expect(keepNearest(scores, limits, most, width, factors)).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("leave out what is not to be chosen", () => {
    const scores = [[-Infinity, 3, NaN, -Infinity, 1, -Infinity]];
    expect(keepNearest(scores, [6], 4, 6)).toEqual([[1, 4]]);
  });
});

/** scale · q·k, or scale · cos(q, k). */
function logitOf(query: Float32Array, key: Float32Array, scale: number, cosine: boolean): number {
  const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  const norm = (x: Float32Array) => Math.max(Math.sqrt(dot(x, x)), 1e-6);
  return (dot(query, key) * scale) / (cosine ? norm(query) * norm(key) : 1);
}

const close = (computed: ArrayLike<number>, expected: ArrayLike<number>, within: number) => {
  for (let i = 0; i < expected.length; i++) expect(Math.abs(computed[i] - expected[i])).toBeLessThan(within);
};

describe("attention over lists", () => {
  it.each([
    { size: 6, cosine: false, codes: false },
    { size: 8, cosine: true, codes: false },
    { size: 20, cosine: false, codes: false },
    { size: 64, cosine: false, codes: true },
    { size: 16, cosine: true, codes: true },
  ])("is a softmax of its own for each unit: %o", ({ size, cosine, codes }) => {
    const random = randomNumbers(size);
    const slots = 41;
    const [keys, values] = [0, 1].map(() => threads.floats(slots * size));
    for (const rows of [keys, values]) rows.data.forEach((_, i) => (rows.data[i] = random() - 0.5));
    const [keyCodes, valueCodes] = [0, 1].map(() => memory.allocate((slots + 5) * size).address);
    const [keyScales, valueScales] = [0, 1].map(() => memory.allocate(4 * (slots + 5)).address);
    functions.compactKeys(keys.address, keyCodes, keyScales, slots, size);
    functions.compactValues(values.address, valueCodes, valueScales, 0, slots, size);
    // Three units: two runs under two queries, one of which repeats slots; nothing; one token.
    const lists = [
      [
        [1, 2, 3, 9, 40],
        [7, 30],
      ],
      [],
      [[17]],
    ].map((unit) => unit.map((list) => Int32Array.from(list)));
    const queries = threads.floats(3 * size);
    queries.data.forEach((_, i) => (queries.data[i] = random() - 0.5));
    const results = threads.floats(3 * (size + 2));
    const room = [3, 3, 8] as const;
    const table = memory.allocate(tableBytes(...room)).address;
    const tables = new ListTables(memory, table, ...room);
    const [sums, maxima] = [1, 2].map((i) => results.address + 4 * 3 * (size + i - 1));
    let first = 0;
    lists.forEach((unit, u) => {
      const address = tables.unit(results.address + 4 * u * size, sums + 4 * u, maxima + 4 * u);
      if (u === 0) first = address;
      unit.forEach((list, r) =>
        tables.run(list, (token) => token, {
          query: queries.address + 4 * ((u + r) % 3) * size,
          angles: 0,
          keys: codes ? keyCodes : keys.address,
          values: codes ? valueCodes : values.address,
          keyScales: codes ? keyScales : 0,
          valueScales: codes ? valueScales : 0,
          scale: 1.7,
          cosine,
        }),
      );
    });
    const stride = 32;
    const job = integers(7);
    const scratch = memory.allocate(4 * 3 * (stride + size)).address;
    job.data.set([first, 3, 1, scratch, stride, size, 0]);
    functions.attendLists(job.address, 3);
    const row = (of: Float32Array, slot: number) => of.subarray(slot * size, (slot + 1) * size);
    const [output, logits] = [results.data.subarray(0, 3 * size), results.data.subarray(3 * size)];
    const within = codes ? 2e-2 : 2e-6;
    const expected = lists.map((unit, u) => {
      const scored = unit.flatMap((list, r) =>
        [...list].map((slot) => ({
          slot,
          logit: logitOf(row(queries.data, (u + r) % 3), row(keys.data, slot), 1.7, cosine),
        })),
      );
      const total = scored.reduce((sum, { logit }) => sum + Math.exp(logit), 0);
      const mixed = Array.from({ length: size }, (_, i) =>
        scored.reduce((sum, { slot, logit }) => sum + (Math.exp(logit) / total) * row(values.data, slot)[i], 0),
      );
      return { mixed, total };
    });
    expected.forEach(({ mixed, total }, u) => {
      close(row(output, u), mixed, within);
      const sum = logits[u] * Math.exp(logits[3 + u]);
      expect(Math.abs(sum - total)).toBeLessThan(within * Math.max(1, total));
    });
    expect([...row(output, 1)].every((x) => x === 0)).toBe(true);
  });
});

it("runs of a list are its consecutive tokens", () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { maxLength: 60 }), (drawn) => {
      const list = Int32Array.from(drawn).sort();
      const runs = runsOfList(list);
      const unfolded = Array.from({ length: runs.length / 2 }, (_, i) =>
        Array.from({ length: runs[2 * i + 1] }, (_token, j) => runs[2 * i] + j),
      ).flat();
      expect(unfolded).toEqual([...list]);
      for (let i = 2; i < runs.length; i += 2) expect(runs[i]).toBeGreaterThan(runs[i - 2] + runs[i - 1]);
    }),
  );
});
