import { describe, expect, it } from "vitest";
import { Capture, ChosenRows, LanguageModel, type AttentionPlan, type Method, type Segment } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyIds, tinyWeights } from "../../core/tests/tiny-model.ts";
import { blocks, chosenTokens, FetchCounts, knn, oracleBlock, retrievalTrace, type FetchedRow } from "../src/index.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, queryHeads: 6, keyHeads: 3, hiddenSize: 48 });
const weights = tinyWeights(config);
const modelOf = (create: typeof createReference) =>
  new LanguageModel({ backend: create(config, weights), tokenizer: null, chatTemplate: null });
const reference = modelOf(createReference);
const cpu = modelOf((...parts) => createCpu(...parts, { threads: 1 }));
const ids = tinyIds(90);
const place = { size: 8, local: 16, sinks: 2 };

/** What a text's queries from `from` on fetch, and the attention that they pay. */
async function traced(model: LanguageModel, method: Method, from: number) {
  const rows: FetchedRow[] = [];
  const trace = retrievalTrace({ queries: { from, to: Infinity }, onRow: (row) => rows.push(row) });
  const capture = new Capture({ layers: [0, 1], hidden: false, attention: true });
  await model.session({ method: [method, trace], chunk: 20 }).prefill(ids, { capture });
  return { rows, capture };
}

describe("a trace", () => {
  const ofGroup = { ...place, exec: 16 };
  /** Blocks are candidates once all of their tokens are 16 tokens behind the query, or behind the first of its group. */
  const candidate = (n: number, query: number) => n >= 2 && n < 2 + 8 * Math.floor((query - 16 + 1 - 2) / 8);
  const candidateOfGroup = (n: number, query: number) => candidate(n, query - (query % 16));

  it.each<[string, LanguageModel, Method, (n: number, query: number) => boolean]>([
    ["a group's blocks", reference, blocks({ ...ofGroup, top: 2 }), candidateOfGroup],
    ["a group's blocks, on the cpu", cpu, blocks({ ...ofGroup, top: 2 }), candidateOfGroup],
    ["a group's blocks in order", reference, blocks({ ...ofGroup, top: 2, positions: "ordered" }), candidateOfGroup],
    ["each token's blocks", reference, blocks({ ...place, top: 2, query: "token" }), candidate],
    ["the blocks of a place", reference, oracleBlock({ ...ofGroup, from: 20, to: 30 }), candidateOfGroup],
    ["the blocks of a place, on the cpu", cpu, oracleBlock({ ...ofGroup, from: 20, to: 30 }), candidateOfGroup],
    ["tokens", reference, knn({ k: 5, window: 16, sinks: 2 }), (n, query) => n >= 2 && query - n >= 16],
  ])("says which far tokens get attention: %s", async (_, model, method, isFar) => {
    const { rows, capture } = await traced(model, method, 50);
    expect(new Set(rows.map(({ layer }) => layer))).toEqual(new Set([0, 1]));
    expect(rows).toHaveLength(2 * 40);
    for (const { layer, query, lists } of rows) {
      const chunk = capture.attention(layer).find(({ first, count }) => query >= first && query < first + count)!;
      const { first, count, tokens, weights: probabilities } = chunk;
      const seen = new Set<number>(); // by any head
      for (let head = 0; head < 6; head++) {
        const at = (head * count + query - first) * tokens;
        probabilities.subarray(at, at + tokens).forEach((p, n) => p > 0 && isFar(n, query) && seen.add(n));
      }
      expect(new Set(lists.flatMap((list) => [...list]))).toEqual(seen);
    }
  });

  it("has a list for each query head that chooses for itself", async () => {
    const { rows } = await traced(reference, blocks({ ...place, top: 2, exec: 16, share: "none" }), 80);
    expect(rows.map(({ lists }) => lists.length)).toEqual(Array.from({ length: 20 }, () => 6));
    const { rows: shared } = await traced(reference, blocks({ ...place, top: 2, exec: 16, share: "group" }), 80);
    expect(shared[0].lists).toHaveLength(3);
  });

  it("is empty where nothing is fetched, and leaves out layers that were not asked for", async () => {
    const rows: FetchedRow[] = [];
    const onRow = (row: FetchedRow) => rows.push(row);
    const session = reference.session({
      method: [blocks({ ...place, top: 2, exec: 16 }), retrievalTrace({ layers: (layer) => layer === 1, onRow })],
    });
    await session.prefill(ids.slice(0, 24));
    expect(rows).toEqual([]); // no block is far enough yet
    await session.prefill(ids.slice(24));
    expect(new Set(rows.map(({ layer }) => layer))).toEqual(new Set([1]));
  });
});

it("lists of a plan are those of the query, of its band, and of both branches", () => {
  const segment = (tokens: Segment["tokens"], rest: Partial<Segment> = {}) =>
    ({ tokens, band: { from: 4, to: Infinity }, ...rest }) as Segment;
  const rows = new ChosenRows(10, 1, 2, [Int32Array.of(1, 9), Int32Array.of(3)]);
  const plan: AttentionPlan = {
    segments: [
      segment({ from: 0, to: 100 }),
      segment(Int32Array.of(5, 6, 8)),
      segment(Int32Array.of(0), { queries: { from: 11, to: 20 } }),
    ],
    gated: { segments: [segment(rows)], gates: [] },
  };
  expect(chosenTokens(plan, 10).map((list) => [...list])).toEqual([
    [1, 5, 6],
    [3, 5, 6],
  ]);
  expect(chosenTokens(plan, 12).map((list) => [...list])).toEqual([
    [0, 5, 6, 8],
    [0, 5, 6, 8],
  ]);
  expect(chosenTokens({ segments: [segment({ from: 0, to: 100 })] }, 10)).toEqual([]);
});

it("counts are by bin, shares of a mark by list", () => {
  const counts = new FetchCounts({ bin: 10, mark: { from: 18, to: 22 } });
  const segment = { tokens: { from: 0, to: 20 }, band: { from: 0, to: Infinity } } as Segment;
  const plan = { segments: [segment, { ...segment, tokens: { from: 21, to: 50 }, band: { from: 0, to: 78 } }] };
  const row = (layer: number, ...lists: number[][]) => ({ layer, query: 99, plan, lists: lists.map((list) => Int32Array.from(list)) }); // prettier-ignore
  counts.add(row(3, [0, 9, 18, 19], [20, 21, 22]));
  counts.add(row(3, [18, 19, 20, 21], [5]));
  counts.add(row(1, [40]));
  expect(counts.layers()).toEqual([
    { layer: 1, lists: 1, counts: [[4, 1]], marked: [0], shown: 0.5 },
    {
      layer: 3,
      lists: 4,
      counts: [
        [0, 3],
        [1, 4],
        [2, 5],
      ],
      marked: [0.75, 0.25],
      shown: 0.5,
    },
  ]);
});
