import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { FarRows, type FarRowsOptions } from "../src/cpu/far/far-rows.ts";
import { MEMORY, RowFile, type RowPlace } from "../src/cpu/far/row-places.ts";

const SHAPE = { heads: 3, headSize: 64 };
const WIDTH = 192;
/** Rows of a block of 2^18 bytes, in float32. */
const BLOCK = Math.floor(2 ** 18 / (4 * WIDTH));
const scratch = mkdtempSync(join(tmpdir(), "longctx-test-"));
afterAll(() => rmSync(scratch, { recursive: true }));

/** Rows of tokens [from, to), numbers that a half holds exactly; `variant` makes others. */
function rows(from: number, to: number, variant = 0): Float32Array {
  return Float32Array.from({ length: (to - from) * WIDTH }, (_, i) => {
    const token = from + Math.floor(i / WIDTH);
    return ((token * 31 + (i % WIDTH) * 7 + variant * 13) % 2048) / 4 - 256;
  });
}

function all(store: FarRows): Float32Array {
  const into = new Float32Array((store.length - store.first) * WIDTH);
  store.read(store.first, store.length - store.first, into);
  return into;
}

/** As `toEqual`, which takes seconds for arrays of this size. */
function expectSame(found: Float32Array, expected: Float32Array): void {
  const differs = found.findIndex((value, i) => value !== expected[i]);
  expect([found.length, differs]).toEqual([expected.length, -1]);
}

const places: Record<string, () => RowPlace> = { memory: () => MEMORY, disk: () => new RowFile(scratch) };

describe.each([
  ["float32", "memory"],
  ["float16", "memory"],
  ["float32", "disk"],
  ["float16", "disk"],
] as const)("%s in %s", (precision, kind) => {
  const store = (options: Partial<FarRowsOptions> = {}) =>
    new FarRows({ ...SHAPE, precision, first: 4, place: places[kind](), ...options });
  const filled = (count: number) => {
    const made = store();
    made.append(rows(4, 4 + count));
    return made;
  };

  test("returns what was appended, in pieces of any size", () => {
    const made = store();
    expect([made.first, made.length]).toEqual([4, 4]);
    let at = 4;
    for (const count of [1, 1, 0, BLOCK - 3, 1, 1, 2 * BLOCK + 5, 700]) {
      made.append(rows(at, at + count));
      at += count;
    }
    expect(made.length).toBe(at);
    expectSame(all(made), rows(4, at));
    for (const [from, count] of [
      [4, 1],
      [BLOCK, 9],
      [500, 600],
      [at - 1, 1],
      [9, 0],
    ]) {
      // prettier-ignore
      const into = new Float32Array(count * WIDTH);
      made.read(from, count, into);
      expectSame(into, rows(from, from + count));
    }
    made.dispose();
  });

  test("returns the rows of each head", () => {
    const made = filled(1000);
    const heads = Array.from({ length: 3 }, () => new Float32Array(700 * 64));
    made.readHeads(200, 700, heads);
    const wanted = rows(200, 900);
    heads.forEach((head, k) =>
      head.forEach((value, i) => {
        if (value !== wanted[Math.floor(i / 64) * WIDTH + k * 64 + (i % 64)]) throw new Error(`head ${k}, number ${i}`);
      }),
    );
    expect(() => made.readHeads(1000, 5, heads)).toThrow("not all among the far rows");
    made.dispose();
  });

  test("views cover the rows, block by block", () => {
    const made = filled(1500);
    let views = 0;
    for (let token = 10; token < made.length; views++) {
      const view = made.view(token, Infinity);
      expectSame(view, rows(token, token + view.length / WIDTH));
      token += view.length / WIDTH;
    }
    expect(views).toBeLessThan(7);
    expect(made.view(11, 3)).toEqual(rows(11, 14));
    made.dispose();
  });

  test("gathers tokens, of all heads or of one", () => {
    const made = filled(1000);
    const tokens = [999, 7, 8, 9, 4, 340, 341, 345, 346, 7];
    const into = new Float32Array(tokens.length * WIDTH);
    made.gather(Int32Array.from(tokens), into);
    expectSame(into, Float32Array.from(tokens.flatMap((token) => [...rows(token, token + 1)])));
    const one = new Float32Array(tokens.length * 64);
    made.gather(tokens, one, 2);
    expect([...one]).toEqual(tokens.flatMap((token) => [...rows(token, token + 1).subarray(128, 192)]));
    made.dispose();
  });

  test("forgets the last rows, and takes others in their place", () => {
    const made = filled(1000);
    made.truncate(2000);
    made.truncate(500);
    made.append(rows(500, 900, 1));
    expectSame(all(made), Float32Array.from([...rows(4, 500), ...rows(500, 900, 1)]));
    made.truncate(0);
    expect([made.length, made.bytes.disk]).toEqual([4, 0]);
    made.append(rows(4, 9));
    expectSame(all(made), rows(4, 9));
    made.dispose();
  });

  test("forks share rows, and go their own ways", () => {
    const parent = filled(500);
    const child = parent.fork();
    parent.append(rows(504, 600));
    child.append(rows(504, 700, 1));
    const grandchild = child.fork();
    grandchild.truncate(400);
    grandchild.append(rows(400, 1000, 2));
    child.truncate(650);
    const wanted = [
      rows(4, 600),
      Float32Array.from([...rows(4, 504), ...rows(504, 650, 1)]),
      Float32Array.from([...rows(4, 400), ...rows(400, 1000, 2)]),
    ];
    const stores = [parent, child, grandchild];
    stores.forEach((one, i) => expectSame(all(one), wanted[i]));
    parent.dispose();
    expectSame(all(child), wanted[1]);
    child.append(rows(650, 660));
    child.dispose();
    expectSame(all(grandchild), wanted[2]);
    grandchild.dispose();
  });

  test("saves only the rows it has, and restores them", () => {
    const made = filled(1000);
    made.truncate(900);
    const bytes = made.save();
    expect(bytes.byteLength).toBe(896 * WIDTH * (precision === "float32" ? 4 : 2));
    const restored = store();
    restored.restore(bytes);
    expectSame(all(restored), rows(4, 900));
    restored.append(rows(900, 910));
    expectSame(all(restored), rows(4, 910));
    expect(() => store().restore(bytes.subarray(1))).toThrow("The saved far keys and values are damaged");
    for (const one of [made, restored]) one.dispose();
  });

  test("bytes grow with the rows, where they are", () => {
    const made = filled(BLOCK * 3);
    const size = precision === "float32" ? 4 : 2;
    const { memory, disk } = made.bytes;
    expect([memory, disk][kind === "memory" ? 1 : 0]).toBe(0);
    expect(memory + disk).toBeGreaterThanOrEqual(BLOCK * 3 * WIDTH * size);
    expect(memory + disk).toBeLessThanOrEqual(BLOCK * 3 * WIDTH * size + 2 ** 18);
    made.dispose();
    expect(made.bytes).toEqual({ memory: 0, disk: 0 });
  });

  test("rows it does not have, and half rows, are refused", () => {
    const made = filled(10);
    const into = new Float32Array(WIDTH * 20);
    for (const [first, count] of [
      [3, 1],
      [13, 2],
      [14, 1],
    ])
      // prettier-ignore
      expect(() => made.read(first, count, into)).toThrow(/are not all among the far rows, which begin with 4 and end before 14/);
    expect(() => made.gather([5, 14], into)).toThrow("not all among the far rows");
    expect(() => made.gather([14], into, 1)).toThrow("not all among the far rows");
    expect(() => made.view(14, 1)).toThrow("not all among the far rows");
    expect(() => made.append(new Float32Array(WIDTH + 1))).toThrow("193 numbers are no rows of 192");
    made.dispose();
  });
});

test("float16 rounds to the nearest half", () => {
  const store = new FarRows({ heads: 1, headSize: 4, precision: "float16" });
  store.append(Float32Array.of(1 / 3, -2049, 1e-5, 1e6));
  const into = new Float32Array(4);
  store.read(0, 1, into);
  expect([...into]).toEqual([0.333251953125, -2048, 168 * 2 ** -24, 65504]);
});

test("room on disk is used again, and no file is left behind", () => {
  const folder = join(scratch, "folder");
  const place = new RowFile(folder);
  const options = { ...SHAPE, precision: "float32", place } as const;
  const keys = new FarRows(options);
  const values = new FarRows(options);
  keys.append(rows(0, 3 * BLOCK));
  keys.truncate(BLOCK);
  values.append(rows(0, 2 * BLOCK));
  keys.append(rows(BLOCK, 2 * BLOCK));
  for (const one of [keys, values]) expectSame(all(one), rows(0, 2 * BLOCK));
  keys.dispose();
  keys.dispose();
  expectSame(all(values), rows(0, 2 * BLOCK));
  values.dispose();
  expect(readdirSync(folder)).toEqual([]);
});

test("a disk that fills up loses nothing, and the append can be repeated", () => {
  let room = Infinity;
  const full: RowPlace = {
    ...MEMORY,
    write(block, at, codes) {
      room -= codes.length;
      if (room < 0) throw new Error("ENOSPC");
      MEMORY.write(block, at, codes);
    },
  };
  const store = new FarRows({ ...SHAPE, precision: "float32", place: full });
  store.append(rows(0, 100));
  for (const left of [0, BLOCK * WIDTH - 1, 2 * BLOCK * WIDTH]) {
    room = left;
    expect(() => store.append(rows(100, 100 + 3 * BLOCK))).toThrow("ENOSPC");
    expect([store.length, store.bytes.memory]).toEqual([100, BLOCK * WIDTH * 4]);
  }
  room = Infinity;
  store.append(rows(100, 100 + 3 * BLOCK));
  expectSame(all(store), rows(0, 100 + 3 * BLOCK));
});

test("a folder that cannot be written to is a LongctxError", () => {
  writeFileSync(join(scratch, "file"), "");
  expect(() => new RowFile(join(scratch, "file"))).toThrow(
    expect.objectContaining({
      code: "capacity",
      message: expect.stringContaining("could not be written in") as string,
    }) as Error,
  );
});

test.skipIf(process.platform === "win32")("a disk that takes no more is a LongctxError", () => {
  const place = new RowFile(scratch);
  const block = { ...place.allocate(Float32Array, 8), offset: 2 ** 52 }; // more than a file may have
  expect(() => place.write(block, 0, new Float32Array(8))).toThrow(
    expect.objectContaining({ code: "capacity" }) as Error,
  );
  expect(() => place.read(Float32Array, block, 0, 8)).toThrow(expect.objectContaining({ code: "file" }) as Error);
  place.retain();
  place.release();
});
