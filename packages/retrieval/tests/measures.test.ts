import { describe, expect, it } from "vitest";
import {
  attentionWeights,
  compose,
  LanguageModel,
  LongctxError,
  stateless,
  within,
  type Backend,
  type ChunkContext,
  type Method,
  type ModelConfig,
} from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyIds, tinyWeights } from "../../core/tests/tiny-model.ts";
import {
  blocks,
  knn,
  measureRetrieval,
  oracle,
  oracleBlock,
  randomBlocks,
  spreadRows,
  type MeasureOptions,
  type RetrievalMeasures,
} from "../src/index.ts";

const shape = { maxPositions: 512, headSize: 8, queryHeads: 6, keyHeads: 3, hiddenSize: 48 };
const ids = tinyIds(100);
const place = { size: 8, local: 16, sinks: 2 };
const ROWS = [49, 63, 80, 99];

function modelOf(device: "reference" | "cpu", changes: Partial<ModelConfig> = {}): LanguageModel {
  const config = tinyConfig({ ...shape, ...changes });
  const weights = tinyWeights(config);
  const backend: Backend =
    device === "cpu" ? createCpu(config, weights, { threads: 1 }) : createReference(config, weights);
  return new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
}
const reference = modelOf("reference");
const cpu = modelOf("cpu");

/** The session of a method whose rings hold the whole text. */
const wide = (model: LanguageModel, method: Method | readonly Method[], chunk = 16) =>
  model.session({ capacity: 128, chunk }).fork({ method });
const measured = (model: LanguageModel, method: Method | readonly Method[], options: MeasureOptions = {}) =>
  measureRetrieval(wide(model, method), ids, { rows: ROWS, ...options });

const streaming: Method = {
  spec: "window",
  axes: ["visibility"],
  segments: ([segment]) => [
    within(segment, { from: 0, to: 20 })!,
    { ...within(segment, { from: 20, to: Infinity })!, tokens: { from: 0, to: 3 } },
  ],
};
const sharper: Method = { spec: "sharper", axes: ["temperature"], temperature: () => 1.7 };

/**
 * The measures once more, by the attention probabilities that a capture computes: those of the plain model tell the
 * masses and the best tokens, those of the method who sees what, and the layer's output is compared as it is.
 */
async function expected(
  model: LanguageModel,
  method: Method | readonly Method[],
  plain: Method | readonly Method[],
  isFar: (n: number, m: number) => boolean,
  top: number,
): Promise<
  Record<string, { recall: number | null; kept: number; far: number; fetched: number | null; error: number }>
> {
  const { config, context } = model;
  const full = compose(...[plain].flat());
  const sums: Record<string, { recalls: number[]; kept: number; far: number; fetched: number; error: number; norm: number }> = {}; // prettier-ignore
  const pending = new Map<string, Float64Array>();
  const watch: Method = {
    spec: "watch",
    axes: [],
    hook: {
      layers: () => true,
      create: () =>
        stateless({
          plan: (plan, view) => {
            const { first, count, layer } = view;
            const chunk: ChunkContext = {
              ...context,
              first,
              count,
              layer,
              length: ids.length,
              promptLength: ids.length,
            };
            const exact = attentionWeights(full.plan(chunk), view, config);
            const own = ofEachHead(plan, view, config);
            const tokens = first + count;
            const values = view.values({ from: 0, to: tokens });
            for (const m of ROWS.filter((row) => row >= first && row < tokens))
              for (let head = 0; head < config.queryHeads; head++) {
                const at = (head * count + m - first) * tokens;
                const p = [...exact.subarray(at, at + m + 1)];
                const sees = [...own.subarray(at, at + m + 1)].map((q) => q > 0);
                const far = p.map((_, n) => n).filter((n) => isFar(n, m) || !sees[n]);
                const fetched = far.filter((n) => sees[n]);
                const best = far.toSorted((a, b) => p[b] - p[a] || a - b).slice(0, fetched.length ? Math.min(top, fetched.length) : top); // prettier-ignore
                const sum = (list: readonly number[]) => list.reduce((total, n) => total + p[n], 0);
                const row = (sums[`${layer} ${head}`] ??= { recalls: [], kept: 0, far: 0, fetched: 0, error: 0, norm: 0 }); // prettier-ignore
                if (best.length > 0) row.recalls.push(best.filter((n) => sees[n]).length / best.length);
                row.kept += sum(p.map((_, n) => n).filter((n) => sees[n])) / ROWS.length;
                row.far += sum(far) / ROWS.length;
                row.fetched += sum(fetched) / ROWS.length;
                const keyHead = Math.floor(head / (config.queryHeads / config.keyHeads));
                const output = new Float64Array(config.headSize);
                p.forEach((weight, n) => output.forEach((_, i) => (output[i] += weight * values[(n * config.keyHeads + keyHead) * config.headSize + i]))); // prettier-ignore
                pending.set(`${layer} ${head} ${m}`, output);
              }
            return plan;
          },
          attended: ({ layer, first }, output) => {
            for (const [key, values] of pending) {
              const [, head, m] = key.split(" ").map(Number);
              values.forEach((value, i) => {
                const row = sums[`${layer} ${head}`];
                row.error += (output[((m - first) * config.queryHeads + head) * config.headSize + i] - value) ** 2;
                row.norm += value ** 2;
              });
            }
            pending.clear();
            return output;
          },
        }),
    },
  };
  await wide(model, [...[method].flat(), watch]).prefill(ids, { logitRows: 0 });
  return Object.fromEntries(
    Object.entries(sums).map(([key, { recalls, kept, far, fetched, error, norm }]) => [
      key,
      {
        recall: recalls.length > 0 ? recalls.reduce((a, b) => a + b) / recalls.length : null,
        kept,
        far,
        fetched: far > 0 ? fetched / far : null,
        error: Math.sqrt(error / norm),
      },
    ]),
  );
}

/** A capture's probabilities [H, T, n] under a plan in which each head has lists of its own. */
function ofEachHead(...[plan, view, config]: Parameters<typeof attentionWeights>): Float32Array {
  const { queryHeads } = config;
  const size = view.count * (view.first + view.count);
  const all = new Float32Array(queryHeads * size);
  for (let head = 0; head < queryHeads; head++) {
    const segments = plan.segments.flatMap((segment) => {
      const { tokens } = segment;
      if (!("list" in tokens)) return [segment];
      return Array.from({ length: view.count }, (_, row) => ({
        ...segment,
        queries: { from: view.first + row, to: view.first + row + 1 },
        tokens: tokens.tokensOf(view.first + row, head, queryHeads),
      }));
    });
    all.set(
      attentionWeights({ ...plan, segments }, view, config).subarray(head * size, (head + 1) * size),
      head * size,
    );
  }
  return all;
}

function expectMeasures(
  measures: RetrievalMeasures,
  wanted: Awaited<ReturnType<typeof expected>>,
  digits: number,
): void {
  expect(measures.heads.map(({ layer, head }) => `${layer} ${head}`)).toEqual(Object.keys(wanted));
  for (const { layer, head, rows, ...values } of measures.heads) {
    expect(rows).toBe(ROWS.length);
    for (const [name, value] of Object.entries(wanted[`${layer} ${head}`])) {
      const computed = values[name as keyof typeof values];
      expect(Math.abs((computed ?? -1) - (value ?? -1)), `${name} of layer ${layer}, head ${head}`).toBeLessThan(
        10 ** -digits,
      );
    }
  }
}

describe("measures are those of exact attention over the same keys and values", () => {
  const candidate = (n: number, m: number) => n >= 2 && n < 2 + 8 * Math.floor((m - 16 + 1 - 2) / 8);
  const ofGroup = (n: number, m: number) => candidate(n, m - (m % 16));
  const never = () => false;

  it.each<[string, LanguageModel, Method | Method[], Method[], (n: number, m: number) => boolean]>([
    ["blocks of a group", reference, blocks({ ...place, top: 2, exec: 16 }), [], ofGroup],
    ["blocks of a group, on the cpu", cpu, blocks({ ...place, top: 2, exec: 16 }), [], ofGroup],
    ["blocks in order", reference, blocks({ ...place, top: 2, exec: 16, positions: "ordered" }), [], ofGroup],
    ["blocks of each head", reference, blocks({ ...place, top: 2, query: "token", share: "none" }), [], candidate],
    ["tokens", reference, knn({ k: 5, window: 16, sinks: 2 }), [], (n, m) => n >= 2 && m - n >= 16],
    [
      "random blocks beside a temperature",
      cpu,
      [randomBlocks({ ...place, top: 2, exec: 16 }), sharper],
      [sharper],
      ofGroup,
    ],
    ["the blocks of a place", cpu, oracleBlock({ ...place, exec: 16, from: 20, to: 30 }), [], ofGroup],
    ["a window, which fetches nothing", cpu, streaming, [], never],
  ])("%s", async (_, model, method, plain, isFar) => {
    for (const top of [3, 32])
      expectMeasures(await measured(model, method, { top }), await expected(model, method, plain, isFar, top), 5);
  });

  it("whose layer has a window of its own", async () => {
    const model = modelOf("reference", { slidingWindows: [24, null] });
    const method = blocks({ ...place, top: 2, exec: 16 });
    const wanted = Object.entries(await expected(model, method, [], ofGroup, 32));
    const ofLayer1 = Object.fromEntries(wanted.filter(([key]) => key.startsWith("1 ")));
    expectMeasures(await measured(model, method, { layers: [1] }), ofLayer1, 5);
    const { heads } = await measured(model, method, { layers: [0] });
    for (const { kept, recall, far, error } of heads) {
      expect([recall, far]).toEqual([null, 0]); // no attention is paid beyond the window, so nothing is missing
      expect(kept).toBeCloseTo(1, 6);
      expect(error).toBeLessThan(1e-6);
    }
  });

  it("does not depend on the chunk, nor on the device", async () => {
    const method = oracleBlock({ ...place, exec: 16, from: 20, to: 30 });
    const [a, b, c] = await Promise.all([
      measureRetrieval(wide(reference, streaming, 7), ids, { rows: ROWS }),
      measureRetrieval(wide(reference, streaming, 100), ids, { rows: ROWS }),
      measured(cpu, method),
    ]);
    a.heads.forEach(({ error, kept }, i) => {
      expect(Math.abs(error - b.heads[i].error)).toBeLessThan(1e-6);
      expect(Math.abs(kept - b.heads[i].kept)).toBeLessThan(1e-6);
    });
    (await measured(reference, method)).heads.forEach(({ kept }, i) =>
      expect(Math.abs(kept - c.heads[i].kept)).toBeLessThan(1e-4),
    );
  });
});

describe("at the ends", () => {
  it.each(["text", "method"] as const)("full attention keeps everything, at positions of the %s", async (positions) => {
    for (const model of [reference, cpu])
      for (const { recall, kept, far, fetched, error } of (await measured(model, [], { positions })).heads) {
        expect([recall, far, fetched]).toEqual([null, 0, null]);
        expect(kept).toBeCloseTo(1, 6);
        expect(error).toBeLessThan(1e-4);
      }
  });

  it("the oracle has the best tokens", async () => {
    for (const { recall } of (await measured(reference, oracle({ k: 6, window: 8, sinks: 1 }))).heads)
      expect(recall).toBe(1);
  });

  it("what fetches everything has no error at its own positions", async () => {
    const method = blocks({ ...place, top: 99, exec: 16 });
    for (const { recall, kept, error, fetched } of (await measured(cpu, method, { positions: "method" })).heads) {
      expect([recall, fetched]).toEqual([1, 1]);
      expect(kept).toBeCloseTo(1, 6);
      expect(error).toBeLessThan(1e-4);
    }
    expect(Math.min(...(await measured(cpu, method)).heads.map(({ error }) => error))).toBeGreaterThan(1e-3);
  });

  it("hidden tokens are where fetched ones are, at the method's positions", async () => {
    // All far tokens at one distance: with everything fetched, that is what full attention means there.
    const method = blocks({ ...place, top: 2, exec: 16 });
    const everything = blocks({ ...place, top: 99, exec: 16 });
    const [some, all] = await Promise.all([
      measured(reference, method, { positions: "method", layers: [0] }),
      measured(reference, everything, { positions: "method", layers: [0] }),
    ]);
    some.heads.forEach(({ far, kept, fetched }, head) => {
      expect(far).toBeCloseTo(all.heads[head].far, 6); // keys and values of layer 0 are the same
      expect(1 - kept).toBeCloseTo(far * (1 - fetched!), 6);
    });
  });
});

describe("a measurement", () => {
  const method = blocks({ ...place, top: 2, exec: 16 });

  it("goes on from what a session has read, and leaves the session as it is", async () => {
    const session = wide(cpu, method);
    await session.prefill(ids.slice(0, 48));
    const measures = await measureRetrieval(session, ids.slice(48), { rows: ROWS });
    expect(session.length).toBe(48);
    const whole = await measured(cpu, method);
    expect(measures.rows).toEqual(whole.rows);
    whole.heads.forEach(({ recall, kept, error }, i) => {
      expect(measures.heads[i].recall).toBe(recall);
      expect(measures.heads[i].kept).toBeCloseTo(kept, 5);
      expect(measures.heads[i].error).toBeCloseTo(error, 5);
    });
  });

  it("names rows and layers, and says how far it is", async () => {
    const told: number[][] = [];
    const measures = await measured(cpu, method, { layers: [1], onProgress: (...values) => told.push(values) });
    expect(measures).toMatchObject({ rows: ROWS, aborted: false, top: 32, positions: "text" });
    expect(new Set(measures.heads.map(({ layer }) => layer))).toEqual(new Set([1]));
    expect(measures.layers).toHaveLength(1);
    expect(measures.layers[0].rows).toBe(6 * ROWS.length);
    expect(told.at(-1)).toEqual([told[0][1], told[0][1], ROWS.length]);
    const shares = told.map(([done, total]) => done / total);
    expect(shares).toEqual(shares.toSorted((a, b) => a - b));
  });

  it("keeps what was measured when it is stopped", async () => {
    const controller = new AbortController();
    const measures = await measured(cpu, method, {
      signal: controller.signal,
      onProgress: (_done, _total, rows) => rows === 2 && controller.abort(),
    });
    expect(measures.aborted).toBe(true);
    expect(measures.rows).toEqual(ROWS.slice(0, 2));
    expect(measures.heads).toHaveLength(12);
    expect((await measured(cpu, method, { signal: AbortSignal.abort() })).heads).toEqual([]);
  });

  it("has rows spread over the text, unless they are given", async () => {
    expect(spreadRows(10, 20, 4)).toEqual([11, 14, 16, 19]);
    expect(spreadRows(0, 3, 9)).toEqual([0, 1, 2]);
    const { rows } = await measureRetrieval(wide(cpu, method), ids);
    expect(rows).toEqual(spreadRows(0, 100, 32));
  });

  it.each<[string, MeasureOptions, RegExp]>([
    ["a row that is not read", { rows: [5, 100] }, /Row 100 cannot be measured, the tokens read are 0 to 99/],
    ["no rows", { rows: [] }, /no rows to measure/],
    ["a layer that is none", { layers: [0, 2] }, /no layer 2 to measure, the model has layers 0 to 1/],
    ["no best tokens", { top: 0 }, /best 0 tokens cannot be measured/],
  ])("refuses %s", async (_, options, message) => {
    const measuring = measured(cpu, method, options);
    await expect(measuring).rejects.toThrow(LongctxError);
    await expect(measuring).rejects.toThrow(message);
  });

  it("refuses rings that have lost tokens, and positions that no rule gives", async () => {
    const evicting = cpu.session({ method: knn({ window: 9, layers: [1] }), capacity: 128 });
    await expect(measureRetrieval(evicting, ids)).rejects.toThrow(
      /Layer 0 evicts tokens under knn:layers=1,window=9.*measure model.session\(\{ capacity \}\).fork\(\{ method \}\)/,
    );
    const ordered = blocks({ ...place, top: 2, exec: 16, positions: "ordered" });
    await expect(measured(cpu, ordered, { positions: "method" })).rejects.toThrow(
      /Layer 0 has 2 rules for the positions/,
    );
    await expect(measured(cpu, streaming, { positions: "method" })).rejects.toThrow(/fetches none of them/);
    const gated = knn({ k: 3, window: 10, merge: "gate", gate: 0.5, scale: 4 });
    await expect(measured(reference, gated, { positions: "method" })).rejects.toThrow(/a second softmax/);
    expect((await measured(reference, gated)).heads).toHaveLength(12);
  });
});
