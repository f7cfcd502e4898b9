import { expect, it } from "vitest";
import { BlockIndex, type IndexedRows } from "../src/cpu/state/block-index.ts";
import { AttentionMass } from "../src/cpu/state/attention-mass.ts";
import { bestBlocks } from "../src/index.ts";
import { ScoredRows } from "../src/cpu/wasm/scored-rows.ts";
import { randomNumbers } from "./tiny-model.ts";

const SIZE = 2;
const FROM = 3;

/** Random keys [tokens, K, D], every third block equal to the one before, and an index of them. */
function indexed(blocks: number, keyHeads: number, headSize: number, kind: "mean" | "bounds") {
  const random = randomNumbers(blocks + headSize);
  const width = keyHeads * headSize;
  const keys = Float32Array.from({ length: (FROM + blocks * SIZE) * width }, () => random() - 0.5);
  for (let block = 2; block < blocks; block += 3) {
    const at = (FROM + block * SIZE) * width;
    keys.copyWithin(at, at - SIZE * width, at);
  }
  const read = (head: number, from: number, to: number) =>
    Float32Array.from({ length: (to - from) * headSize }, (_, i) => keys[(from + Math.floor(i / headSize)) * width + head * headSize + (i % headSize)]); // prettier-ignore
  const rows: IndexedRows = {
    slots: { slotOf: (token) => token, runs: (from, to) => [{ from, to, token: from }] },
    keys: { read },
    mass: new AttentionMass(keyHeads),
  };
  const index = new BlockIndex({ from: FROM, size: SIZE, representative: { kind } }, { keyHeads, headSize });
  return { index, rows, read, random };
}

it.each([
  ["mean", 3, 64],
  ["bounds", 2, 8],
  ["mean", 3, 6], // no fours
] as const)(
  "the best blocks of thousands are those of a sort, ties to the smaller: %s, %i heads of %i",
  (kind, keyHeads, headSize) => {
    const { index, rows, read, random } = indexed(2500, keyHeads, headSize, kind);
    const sides = kind === "mean" ? 1 : 2;
    for (const blocks of [1, 40, 700, 2500]) {
      index.extend(blocks, rows);
      const values = Float64Array.from({ length: keyHeads * headSize * sides }, () => random() - 0.5);
      const scores = Array.from({ length: blocks }, (_, block) => {
        let score = 0;
        for (let head = 0; head < keyHeads; head++) {
          const keys = read(head, FROM + block * SIZE, FROM + (block + 1) * SIZE);
          for (let i = 0; i < headSize; i++) {
            const [a, b] = [keys[i], keys[headSize + i]];
            const at = head * headSize * sides + i;
            if (kind === "mean") score += values[at] * Math.fround((a + b) / 2);
            else score += values[at] * Math.max(a, b) + values[at + headSize] * Math.min(a, b);
          }
        }
        return Math.round(score * 1e9); // the same but for the order of the sums
      });
      const fork = index.fork();
      for (const count of [1, 7, 16])
      for (const one of [index, fork]) expect(one.best({ column: 0, values }, blocks, count)).toEqual(bestBlocks(scores, count)); // prettier-ignore
      fork.release();
    }
    index.truncate(FROM + 100 * SIZE);
    expect(index.bytes).toBeGreaterThan(0);
    index.release();
    expect(index.bytes).toBe(0);
  },
);

it("rows for which there is no memory are a LongctxError, and the others stay", () => {
  const rows = new ScoredRows(1024);
  rows.reserve(2);
  rows.floats.fill(1);
  expect(() => rows.reserve(2 ** 21)).toThrow(expect.objectContaining({ code: "capacity" }) as Error);
  expect(rows.scores(new Float32Array(1024).fill(2), 2)).toEqual(Float32Array.of(2048, 2048));
  rows.release();
});
