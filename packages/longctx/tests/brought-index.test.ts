import { expect, it } from "vitest";
import {
  constantPosition,
  LanguageModel,
  LongctxError,
  within,
  type KeyIndex,
  type KeyIndexMaker,
  type Method,
} from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { difference, distinctIds } from "./devices.ts";

/** An index that compares all keys, so that what it finds is what all scores find. */
class Compared implements KeyIndex {
  keys: number[] = [];
  first = 0;
  readonly dimension: number;
  readonly live: Set<Compared>;

  constructor(dimension: number, live: Set<Compared>) {
    this.dimension = dimension;
    this.live = live;
    live.add(this);
  }

  get length(): number {
    return this.keys.length === 0 ? 0 : this.first + this.keys.length / this.dimension;
  }

  get bytes(): number {
    return 8 * this.keys.length;
  }

  add(first: number, keys: Float32Array): void {
    if (this.keys.length > 0 && first !== this.length) throw new Error(`${first} after ${this.length}`);
    if (this.keys.length === 0) this.first = first;
    this.keys.push(...keys);
  }

  search(query: Float32Array, count: number): Int32Array {
    const scores = Array.from({ length: this.keys.length / this.dimension }, (_, row) =>
      query.reduce((sum, x, i) => sum + x * this.keys[row * this.dimension + i], 0),
    );
    const order = scores.map((_, row) => row).sort((a, b) => scores[b] - scores[a] || a - b);
    return Int32Array.from(order.slice(0, count), (row) => this.first + row);
  }

  truncate(length: number): void {
    this.keys.length = Math.max(0, Math.min(this.keys.length, (length - this.first) * this.dimension));
  }

  fork(): Compared {
    const copy = new Compared(this.dimension, this.live);
    copy.keys = this.keys.slice();
    copy.first = this.first;
    return copy;
  }

  save(): Uint8Array {
    return new Uint8Array(Float64Array.from([this.first, ...this.keys]).buffer);
  }

  dispose(): void {
    this.live.delete(this);
  }
}

function makerOf() {
  const live = new Set<Compared>();
  const examples: number[] = [];
  let broken: "create" | "restore" | null = null;
  const maker: KeyIndexMaker = {
    id: "compared",
    create: (dimension, queries) => {
      if (broken === "create") throw new LongctxError("method", "There is no library for an index.");
      examples.push(queries?.length ?? 0);
      return new Compared(dimension, live);
    },
    restore: (bytes, dimension) => {
      if (broken === "restore") throw new LongctxError("file", "The saved index is damaged.");
      const [first, ...keys] = new Float64Array(bytes.slice().buffer);
      const index = new Compared(dimension, live);
      index.first = first;
      index.keys = keys;
      return index;
    },
  };
  return { maker, live, examples, breakIn: (what: typeof broken) => void (broken = what) };
}

/** The last 12 tokens, and for each query head the best 4 of those behind token 2 and before them. */
function nearest(index?: KeyIndexMaker): Method {
  return {
    spec: "nearest",
    axes: ["visibility", "distance"],
    segments: ([segment], { first, count }) => {
      const [queryPosition, keyPosition] = [constantPosition(12), constantPosition(0)];
      const candidates = Math.max(0, first + count - 12 - 2);
      const near = within(segment, { from: -Infinity, to: 12 })!;
      if (candidates === 0) return [near];
      const asking = { from: first, to: first + count };
      const each = { beyond: 12 };
      const of = { id: "nearest", size: 1, from: 2, candidates, count: Math.min(4, candidates), asking, each };
      const choice = { ...of, share: "none", table: segment.table, queryPosition, keyPosition, index } as const;
      return [
        near,
        { ...segment, queryPosition, keyPosition, tokens: { choice, ranks: { from: 0, to: choice.count } } },
      ];
    },
  };
}

const config = tinyConfig({ maxPositions: 512, vocabSize: 256, queryHeads: 6, keyHeads: 3, headSize: 8 });
const model = new LanguageModel({
  backend: createCpu(config, tinyWeights(config), { threads: 1 }),
  tokenizer: null,
  chatTemplate: null,
});
const text = distinctIds(120, 3);
const open = (method: Method, chunk = 32) => model.session({ method, chunk, capacity: 256 });

it("an index holds the candidates of each layer and key head, in every sequence its own", async () => {
  const { maker, live, examples } = makerOf();
  const session = open(nearest(maker));
  await session.prefill(text.slice(0, 64), { logitRows: 64 });
  expect([...live].map(({ first, length }) => [first, length])).toEqual(Array.from({ length: 6 }, () => [2, 52]));
  expect(examples).toEqual(Array.from({ length: 6 }, () => 32 * 2 * 8)); // the first chunk's queries of a key head
  const fork = session.fork();
  expect(live.size).toBe(12);
  await fork.prefill(text.slice(64, 65));
  expect([...live].map(({ length }) => length).sort((a, b) => a - b)).toEqual([...Array(6).fill(52), ...Array(6).fill(53)]); // prettier-ignore
  fork.truncate(30);
  await fork.prefill(text.slice(30, 31));
  expect([...live].filter(({ length }) => length === 19)).toHaveLength(6); // of token 30, tokens up to 18 are 12 away
  expect(session.bytesByPart.index).toBe(6 * 50 * 8 * 8);
  fork.dispose();
  session.dispose();
  expect(live.size).toBe(0);
});

it("tokens that are read alone take what the index finds, as by all scores", async () => {
  const { maker } = makerOf();
  for (const chunk of [32, 1]) {
    const [exact, indexed] = [open(nearest(), chunk), open(nearest(maker), chunk)];
    const read = async (session: typeof exact) => {
      const logits = [...(await session.prefill(text.slice(0, 70), { logitRows: 70 }))];
      for (const id of text.slice(70, 90)) logits.push(...(await session.prefill([id])));
      return Float32Array.from(logits);
    };
    expect(difference(await read(indexed), await read(exact))).toBeLessThan(1e-5);
  }
});

it("what the maker refuses is the answer, and the session goes on where it was", async () => {
  const { maker, breakIn } = makerOf();
  breakIn("create");
  const session = open(nearest(maker));
  await expect(session.prefill(text.slice(0, 64))).rejects.toThrow(/no library/);
  breakIn(null);
  await session.prefill(text.slice(session.length, 64));
  const saved = await session.save();
  const expected = await session.prefill(text.slice(64, 65));
  const restored = () => model.restoreSession(saved, { method: nearest(maker), chunk: 32, capacity: 256 });
  expect(difference(await restored().prefill(text.slice(64, 65)), expected)).toBe(0);
  breakIn("restore");
  const damaged = restored();
  await expect(damaged.prefill(text.slice(64, 65))).rejects.toThrow(/saved index is damaged/);
  breakIn(null);
  expect(difference(await damaged.prefill(text.slice(64, 65)), expected)).toBe(0);
});
