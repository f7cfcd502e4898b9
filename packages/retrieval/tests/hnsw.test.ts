import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { LongctxError, type KeyIndex } from "@longctx/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { graphFile } from "../src/nearest/graph-files.ts";
import type { Graph } from "../src/nearest/hnsw-graph.ts";
import { hnswIndex } from "../src/nearest/hnsw.ts";
import { hnswlib } from "../src/nearest/hnswlib.ts";
import { bestTokens, clusteredKeys, queriesFor, recall } from "./keys.ts";

const D = 24;
const FIRST = 4;
const maker = hnswIndex({ M: 16, efConstruction: 100, ef: 256 });
const KEYS = clusteredKeys(3000, D, 1);
const QUERIES = queriesFor(20, D, 2);

function rows(from: number, to: number, keys = KEYS): Float32Array {
  return keys.slice(from * D, to * D);
}

function built(keys: Float32Array, of = maker): KeyIndex {
  const index = of.create(D);
  index.add(FIRST, keys);
  return index;
}

/** The mean share of the best 16 tokens that are found. */
function meanRecall(index: KeyIndex, keys: Float32Array, count = 16): number {
  const all = QUERIES.map((query) => recall(index.search(query, count), bestTokens(query, keys, FIRST, count)));
  return all.reduce((sum, share) => sum + share) / all.length;
}

const found = (index: KeyIndex) => QUERIES.map((query) => [...index.search(query, 16)]);

function codeOf(act: () => unknown): string | undefined {
  try {
    act();
  } catch (error) {
    if (!(error instanceof LongctxError) || error.message.includes("\n")) throw error;
    return error.code;
  }
  return undefined;
}

let available = true;
try {
  hnswlib();
} catch {
  available = false; // no compiler when packages were installed
}

let scratch: string;
const own = process.env["TMPDIR"];
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "longctx-test-"));
  process.env["TMPDIR"] = scratch;
});
afterAll(() => {
  if (own === undefined) delete process.env["TMPDIR"];
  else process.env["TMPDIR"] = own;
  rmSync(scratch, { recursive: true });
});

describe.skipIf(!available)("hnsw", () => {
  test("finds what comparing with every key finds, with as many candidates as keys", () => {
    const index = built(KEYS, hnswIndex({ M: 16, efConstruction: 200, ef: 3000 }));
    expect(index.length).toBe(3004);
    expect(meanRecall(index, KEYS, 32)).toBeGreaterThanOrEqual(0.999);
    expect(index.bytes).toBeGreaterThan(3000 * (D + 32) * 4);
    index.dispose();
  });

  test("finds most of it with few candidates, and more of it with more", () => {
    const [few, more] = [16, 256].map((ef) =>
      meanRecall(built(KEYS, hnswIndex({ M: 16, efConstruction: 100, ef })), KEYS),
    );
    expect(few).toBeLessThan(more);
    expect(more).toBeGreaterThan(0.97);
  });

  test("a few keys are compared one by one: the best first, ties to the smaller token", () => {
    const index = maker.create(2);
    expect([...index.search(Float32Array.of(1, 0), 3)]).toEqual([]);
    index.add(7, Float32Array.of(1, 0, 3, 0, 2, 1, 3, 5, 2, 0));
    expect([...index.search(Float32Array.of(1, 0), 4)]).toEqual([8, 10, 9, 11]);
    expect([...index.search(Float32Array.of(-1, 0), 99)]).toEqual([7, 9, 11, 8, 10]);
    expect([...index.search(Float32Array.of(1, 0), 0)]).toEqual([]);
  });

  test("does not depend on how many keys are added at once", () => {
    const index = maker.create(D);
    let at = 0;
    for (const count of [1, 2, 500, 0, 13, 700, 784]) {
      index.add(FIRST + at, rows(at, at + count));
      at += count;
    }
    expect(Buffer.compare(index.save(), built(rows(0, 2000)).save())).toBe(0);
  });

  test.each([3, 100, 300, 2500])("forgets the last %i tokens, and takes others in their place", (count) => {
    const index = built(KEYS);
    const kept = 3000 - count;
    index.truncate(FIRST + kept);
    expect(index.length).toBe(FIRST + kept);
    expect(Math.max(...found(index).flat())).toBeLessThan(FIRST + kept);
    expect(meanRecall(index, rows(0, kept))).toBeGreaterThan(0.95);
    const others = Float32Array.from([...rows(0, kept), ...clusteredKeys(count + 50, D, 3)]);
    index.add(FIRST + kept, rows(kept, 3050, others));
    expect(meanRecall(index, others)).toBeGreaterThan(0.95);
    index.truncate(0);
    expect([index.length, found(index).flat()]).toEqual([0, []]);
    index.add(9, rows(0, 10));
    expect(index.length).toBe(19);
  });

  test("forks go their own ways", () => {
    const parent = built(rows(0, 1100));
    const before = found(parent);
    const child = parent.fork();
    const [left, right] = [rows(1100, 2000), clusteredKeys(900, D, 5)];
    parent.add(FIRST + 1100, left);
    expect(found(child)).toEqual(before);
    child.add(FIRST + 1100, right);
    expect(meanRecall(parent, rows(0, 2000))).toBeGreaterThan(0.95);
    expect(meanRecall(child, Float32Array.from([...rows(0, 1100), ...right]))).toBeGreaterThan(0.95);
    const saved = child.save();
    parent.dispose();
    expect(Buffer.compare(child.save(), saved)).toBe(0);
    child.truncate(FIRST + 600);
    expect(meanRecall(child, rows(0, 600))).toBeGreaterThan(0.95);
    child.dispose();
  });

  test("forks of forks become one graph again", () => {
    let index = built(rows(0, 600));
    const all = [index];
    for (let at = 600; at < 3000; at += 300) {
      index = index.fork();
      if (at === 900) index.truncate(FIRST + 850);
      index.add(index.length, rows(index.length - FIRST, at + 300));
      all.push(index);
    }
    const graphs = JSON.parse(Buffer.from(index.save()).toString("latin1").split("\n")[0]).graphs as unknown[];
    expect(graphs.length).toBeLessThanOrEqual(4);
    expect(meanRecall(index, KEYS)).toBeGreaterThan(0.95);
    expect(meanRecall(all[0], rows(0, 600))).toBeGreaterThan(0.95);
    for (const one of all) one.dispose();
  });

  test("what was saved finds the same, and goes on", () => {
    const index = built(rows(0, 2900));
    index.truncate(FIRST + 2700);
    const restored = maker.restore(index.save(), D);
    expect(restored.length).toBe(FIRST + 2700);
    expect(found(restored)).toEqual(found(index));
    restored.add(FIRST + 2700, rows(2700, 3000));
    expect(meanRecall(restored, KEYS)).toBeGreaterThan(0.95);
    const few = built(rows(0, 9));
    expect(found(maker.restore(few.save(), D))).toEqual(found(few));
    expect(maker.restore(maker.create(D).save(), D).length).toBe(0);
    expect(readdirSync(scratch)).toEqual([]);
  });

  test("finds more in the same time when it knows queries such as those it is asked", () => {
    // Queries look at a third of the directions, in which keys differ as in all others.
    const looking = (seed: number) => queriesFor(60, D, seed).map((query) => query.map((value, i) => (i < 8 ? value : value / 50))); // prettier-ignore
    const examples = Float32Array.from(looking(7).flatMap((query) => [...query]));
    const [without, knowing] = [undefined, examples].map((known) => {
      const index = hnswIndex({ M: 8, efConstruction: 60, ef: 32 }).create(D, known);
      index.add(FIRST, KEYS);
      return index;
    });
    const asked = looking(8);
    const meanOf = (index: KeyIndex) =>
      asked.reduce((sum, query) => sum + recall(index.search(query, 16), bestTokens(query, KEYS, FIRST, 16)), 0) / 60;
    expect(meanOf(knowing)).toBeGreaterThan(meanOf(without) + 0.05);
    const before = meanOf(knowing);
    const restored = hnswIndex({ M: 8, efConstruction: 60, ef: 32 }).restore(knowing.save(), D);
    expect(meanOf(restored)).toBe(before);
    const fork = knowing.fork();
    fork.truncate(FIRST + 2500);
    fork.add(FIRST + 2500, rows(2500, 3000));
    expect(meanOf(fork)).toBeGreaterThan(before - 0.05);
    for (const index of [without, knowing, restored, fork]) index.dispose();
  });

  test("a saved index that is damaged, or of another kind, is refused", () => {
    const bytes = built(rows(0, 600)).save();
    const head = bytes.indexOf(10) + 1;
    for (const at of [0, 30, head, head + 4000, head + 40_000, bytes.length - 1]) {
      const broken = bytes.slice();
      broken[at] ^= 1;
      expect(codeOf(() => maker.restore(broken, D))).toBe("file");
    }
    for (const length of [0, 10, head, bytes.length - 1])
      expect(codeOf(() => maker.restore(bytes.subarray(0, length), D))).toBe("file");
    expect(codeOf(() => maker.restore(Uint8Array.from([...bytes, 0]), D))).toBe("file");
    expect(codeOf(() => maker.restore(Buffer.from("null\n"), D))).toBe("file");
    expect(() => maker.restore(bytes, 64)).toThrow("The saved index has dimension 24, this one 64; build it anew.");
    expect(() => hnswIndex({ M: 8, efConstruction: 100 }).restore(bytes, D)).toThrow("has M 16, this one 8");
    expect(readdirSync(scratch)).toEqual([]);
  });

  test("a disk without room is said so", () => {
    const index = built(rows(0, 300));
    process.env["TMPDIR"] = join(scratch, "missing");
    expect(codeOf(() => index.save())).toBe("capacity");
    process.env["TMPDIR"] = scratch;
    const full = { write: (path: string) => writeFileSync(path, new Uint8Array(200)) } as Graph;
    expect(codeOf(() => graphFile(full, join(scratch, "graph"), { numbers: D + 1, M: 16, count: 256 }))).toBe(
      "capacity",
    );
    rmSync(join(scratch, "graph"));
    expect(meanRecall(index, rows(0, 300))).toBeGreaterThan(0.95);
  });

  test("keys and queries of another size, and gaps, are refused", () => {
    const index = built(rows(0, 5));
    expect(codeOf(() => index.add(FIRST + 5, new Float32Array(D + 1)))).toBe("argument");
    expect(codeOf(() => index.add(FIRST + 6, new Float32Array(D)))).toBe("argument");
    expect(codeOf(() => index.add(FIRST, new Float32Array(D)))).toBe("argument");
    expect(codeOf(() => index.search(new Float32Array(D + 1), 1))).toBe("argument");
    expect(index.length).toBe(FIRST + 5);
  });
});

test("the id names what makes the index", () => {
  expect(maker.id).toBe("hnsw M=16 efConstruction=100 ef=256");
});

test.each([{ M: 1 }, { M: 2.5 }, { M: 300 }, { M: 16, efConstruction: 8 }, { ef: 0 }, { ef: NaN }])(
  "%o is refused",
  (options) => {
    expect(codeOf(() => hnswIndex(options))).toBe("method");
  },
);

test("without the library, or its native part, the error says how to get it", () => {
  const folder = mkdtempSync(join(scratch, "project-"));
  const here = pathToFileURL(join(folder, "index.js")).href;
  expect(() => hnswlib(here)).toThrow(/is not installed; run `npm install hnswlib-node`.*or use index=exact/);
  const library = join(folder, "node_modules/hnswlib-node");
  mkdirSync(library, { recursive: true });
  writeFileSync(join(library, "index.js"), 'throw new Error("Could not locate the bindings file.\\nTried: ...");');
  expect(() => hnswlib(here)).toThrow(/does not load \(Could not locate the bindings file\.\); compile it/);
  expect(codeOf(() => hnswlib(here))).toBe("method");
  rmSync(folder, { recursive: true });
});
