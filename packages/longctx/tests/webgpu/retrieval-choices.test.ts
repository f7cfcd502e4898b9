import { afterAll, describe, expect, it } from "vitest";
import {
  Capture,
  ChosenRows,
  constantPosition,
  LanguageModel,
  stateless,
  TEXT_POSITION,
  type AttentionPlan,
  type Method,
  type ModelConfig,
  type Precision,
  type Segment,
  type Session,
} from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { createWebGpu } from "@longctx/core/webgpu";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { parseMethod } from "../../src/methods.ts";
import { difference } from "../definitions/judge.ts";
import { planned } from "../planned.ts";
import { gpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

/** 3 key heads of 6 query heads: in sizes that kernels like, and in others, partly rotated, with an amplitude. */
const SHAPES: readonly Partial<ModelConfig>[] = [
  { headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } },
  { headSize: 6, rope: { type: "yarn", base: 100, rotarySize: 4, factor: 4, originalMaxPositions: 16 } },
];

const models = SHAPES.map((shape) => {
  const config = tinyConfig({
    maxPositions: 512,
    vocabSize: 160,
    queryHeads: 6,
    keyHeads: 3,
    hiddenSize: 48,
    ...shape,
  });
  const weights = tinyWeights(config, 3);
  const reference = new LanguageModel({
    backend: createReference(config, weights),
    tokenizer: null,
    chatTemplate: null,
  });
  const computing = async (precision?: Precision) => {
    const backend = await createWebGpu(config, weights, { device: gpu!, precision });
    return new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
  };
  return { reference, computing };
});

const blocks = (rest: string, size = "size=8,top=2,local=16,sinks=2,exec=16") => `blocks:${size},repr=2,${rest}`;

/** Each kind of choice, and every pair of answers to the questions that a choice asks, once at least. */
const SPECS = [
  "knn:k=3,window=10,sinks=2",
  "knn:k=5,window=7,positions=true,layers=1",
  "knn:k=40,window=9,positions=none",
  "knn:k=3,window=10,merge=gate,gate=0.5,scale=4",
  "knn:k=4,window=6,merge=gate,keys=raw,gate=-1,positions=true,layers=1",
  "oracle:k=5",
  blocks("share=heads,representative=bounds,query=chunk,positions=constant"),
  blocks("share=heads,representative=salient,query=chunk,positions=ordered"),
  blocks("share=heads,representative=mean,query=token,positions=constant"),
  blocks("share=group,representative=bounds,query=token,positions=ordered"),
  blocks("share=group,representative=salient,query=token,positions=constant"),
  blocks("share=group,representative=mean,query=chunk,positions=ordered"),
  blocks("share=none,representative=bounds,query=chunk,positions=constant"),
  blocks("share=none,representative=salient,query=chunk,positions=ordered"),
  blocks("share=none,representative=mean,query=token,positions=ordered"),
  blocks("query=token,positions=ordered", "size=1,top=9,local=9,sinks=2"),
  `logn+${blocks("representative=salient,share=heads,query=token", "size=5,top=3,local=7,sinks=0")}`,
];
const CHUNKS = [1, 7, 64, 256];
/** Tokens without a repetition: equal tokens have equal keys in layer 0, and a tie may fall either way. */
const all = Array.from({ length: 159 }, (_, i) => (i * 37 + 5) % 160);
const [ids, others] = [all.slice(0, 119), all.slice(119)];

/** What happens to a session; all logits, and what it generates and refuses. */
async function live(model: LanguageModel, spec: string, chunk: number) {
  const options = { method: parseMethod(spec), capacity: 256, chunk };
  const session = model.session(options);
  const logits = [await session.prefill(ids.slice(0, 70), { logitRows: 70 })];
  const read = async (one: Session, tokens: readonly number[]) =>
    void logits.push(await one.prefill(tokens, { logitRows: tokens.length }));
  const fork = session.fork();
  await read(fork, others.slice(0, 23));
  await read(session, ids.slice(70, 81));
  const evicts = spec.includes("layers="); // rings as long as a chunk asks for, and what they lost
  const restored = model.restoreSession(await fork.save(), { ...options, chunk: evicts ? chunk : 16 });
  for (const one of [fork, restored, restored.fork()]) await read(one, others.slice(23));
  for (const id of ids.slice(81, 85)) await read(session, [id]);
  const refused = evicts ? "" : messageOf(() => fork.truncate(77));
  if (refused) fork.truncate(0);
  await read(fork, ids.slice(80, 110));
  const generation = session.generate({ prompt: [7], maxNew: 12, stopTokens: [] });
  await generation.complete();
  logits.push(session.lastLogits!);
  const { bytesByPart } = session;
  for (const one of [session, fork, restored]) one.dispose();
  return { logits, refused, generated: generation.ids, bytesByPart };
}

function messageOf(act: () => void): string {
  try {
    act();
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}

describe.skipIf(!gpu)("webgpu: choices are those of the reference", () => {
  it.each(SPECS.map((spec, i) => [spec, CHUNKS[i % CHUNKS.length], i % 2] as const))(
    "%s in chunks of %i, model %i",
    async (spec, chunk, which) => {
      const { reference, computing } = models[which];
      const expected = await live(reference, spec, 64);
      const model = await computing();
      const computed = await live(model, spec, chunk);
      computed.logits.forEach((logits, i) => expect(difference(logits, expected.logits[i])).toBeLessThan(TOLERANCE));
      expect(computed.generated).toEqual(expected.generated);
      expect(computed.refused).toBe(expected.refused);
      expect(computed.refused).toMatch(spec.includes("salient") ? /attention mass/ : /^$/);
      expect(computed.bytesByPart.index > 0).toBe(spec.includes("size=8") || spec.includes("salient"));
      await model.dispose();
    },
  );
});

/** A method that changes nothing, and keeps what it sees of plans: lists in place of choices. */
function watch(seen: unknown[]): Method {
  const listed = ({ tokens }: Segment) =>
    tokens instanceof ChosenRows
      ? Array.from({ length: tokens.count * tokens.heads }, (_, i) => [
          ...tokens.list(Math.floor(i / tokens.heads), i % tokens.heads),
        ])
      : tokens;
  const plan = (given: AttentionPlan, layer: number, first: number) => {
    seen.push([layer, first, given.segments.map(listed), given.gated?.segments.map(listed)]);
    return { ...given, segments: [...given.segments] };
  };
  return {
    spec: "watch",
    axes: [],
    hook: {
      layers: (layer) => layer === 1,
      create: () => stateless({ plan: (given, { layer, first }) => plan(given, layer, first) }),
    },
  };
}

describe.skipIf(!gpu)("webgpu: hooks and captures see what was chosen", () => {
  it.each([SPECS[0], SPECS[3], SPECS[6], SPECS[7], SPECS[9], SPECS[10], SPECS[13], SPECS[15]])("%s", async (spec) => {
    const { reference, computing } = models[1];
    const model = await computing();
    const read = async (by: LanguageModel, seen: unknown[]) => {
      const session = by.session({ method: [parseMethod(spec), watch(seen)], capacity: 256, chunk: 16 });
      const capture = new Capture({ layers: [0], attention: true });
      const logits = [await session.prefill(ids.slice(0, 60), { logitRows: 60 })];
      logits.push(await session.prefill(ids.slice(60, 75), { logitRows: 15, capture }));
      for (const { weights } of capture.attention(0)) logits.push(weights);
      session.dispose();
      return logits;
    };
    const lists: [unknown[], unknown[]] = [[], []];
    const [expected, computed] = [await read(reference, lists[0]), await read(model, lists[1])];
    expect(lists[1]).toEqual(lists[0]);
    computed.forEach((logits, i) => expect(difference(logits, expected[i])).toBeLessThan(TOLERANCE));
    await model.dispose();
  });
});

/** Choices of everything there is, which are full attention. */
const EVERYTHING = [
  "knn:k=119,window=8,positions=true",
  "oracle:k=119",
  blocks("positions=ordered,query=token,share=none,representative=bounds", "size=8,top=99,local=16,sinks=2"),
  blocks("positions=ordered,query=chunk,share=group", "size=8,top=99,local=16,sinks=2,exec=16"),
  blocks("positions=ordered,representative=salient", "size=8,top=99,local=16,sinks=2,exec=16"),
];

describe.skipIf(!gpu)("webgpu: who chooses everything attends to everything", () => {
  it.each(EVERYTHING)("%s", async (spec) => {
    const { reference, computing } = models[0];
    const read = (model: LanguageModel, method: readonly Method[]) =>
      model.session({ method, capacity: 128, chunk: 40 }).prefill(ids, { logitRows: ids.length });
    const plain = await read(reference, []);
    for (const [precision, tolerance] of [
      ["exact", TOLERANCE],
      ["fast", 0.05], // keys and values of 16 bits
    ] as const) {
      const model = await computing(precision);
      expect(difference(await read(model, [parseMethod(spec)]), plain)).toBeLessThan(tolerance);
      await model.dispose();
    }
  });
});

/** Choices that no method makes. */
const OTHERS: Readonly<Record<string, (segment: Segment, first: number, count: number) => Partial<AttentionPlan>>> = {
  "tokens at text positions that all rows and heads share": (segment, first, count) =>
    choosing(segment, { count: 3, candidates: Math.max(0, first - 4), asking: { from: first, to: first + count } }),
  "tokens that all rows and heads share by cosines": (segment, first, count) =>
    choosing(segment, {
      count: 4,
      candidates: Math.max(0, first - 4),
      asking: { from: first, to: first + count },
      scales: SCALES,
    }),
  "tokens that some of the rows choose for themselves": (segment, first, count) =>
    choosing(segment, {
      count: 3,
      candidates: Math.max(0, first + count - 6),
      asking: { from: first + 2, to: first + 11 },
      each: { beyond: 5 },
      share: "group",
    }),
  "two choices in one plan": (segment, first, count) => {
    const asking = { from: first, to: first + count };
    const far = { queryPosition: constantPosition(7), keyPosition: constantPosition(0) };
    const one = choosing(segment, { id: "one", count: 3, candidates: 5, asking, each: { beyond: 5 }, share: "none" });
    const two = { ...far, table: segment.table, id: "two", size: 2, from: 6, count: 2, candidates: 4, asking, share: "group" } as const; // prettier-ignore
    if (first < 16) return { segments: [segment] };
    const tokens = { choice: two, ranks: { from: 0, to: 2 } };
    return {
      segments: [...one.segments, { ...segment, ...far, tokens, band: { from: 0, to: Infinity } }],
    };
  },
};
const SCALES = [0, 1].map((layer) => Float32Array.from({ length: 6 }, (_, head) => 3 - head - layer));

function choosing(segment: Segment, changes: object): { segments: Segment[] } {
  const choice = {
    id: "some",
    size: 1,
    from: 0,
    table: segment.table,
    queryPosition: TEXT_POSITION,
    keyPosition: TEXT_POSITION,
    count: 1,
    candidates: 0,
    asking: { from: 0, to: 1 },
    ...changes,
  };
  const near = { ...segment, band: { from: 0, to: 4 } };
  const tokens = { choice, ranks: { from: 0, to: choice.count } };
  return {
    segments: [near, ...(choice.candidates > 0 ? [{ ...segment, tokens, band: { from: 4, to: Infinity } }] : [])],
  };
}

describe.skipIf(!gpu)("webgpu: choices that a plan can say and no method makes", () => {
  it.each(Object.keys(OTHERS))("%s", async (name) => {
    const { reference, computing } = models[1];
    const method = planned(([segment], { first, count }) => [...OTHERS[name](segment, first, count).segments!]);
    const read = (model: LanguageModel) =>
      model.session({ method: { ...method, rawKeys: true }, capacity: 128, chunk: 13 }).prefill(ids.slice(0, 80), { logitRows: 80 }); // prettier-ignore
    const model = await computing();
    expect(difference(await read(model), await read(reference))).toBeLessThan(TOLERANCE);
    await model.dispose();
  });

  it("are refused where an approximate index is asked for", async () => {
    const model = await models[0].computing();
    const index = { id: "hnsw(M=16)", create: () => null as never, restore: () => null as never };
    const method = planned(([segment], { first }) =>
      first < 10 ? [segment] : choosing(segment, { count: 2, candidates: 5, each: { beyond: 4 }, index }).segments,
    );
    const session = model.session({ method, capacity: 64, chunk: 10 });
    await session.prefill(ids.slice(0, 10));
    await expect(session.prefill(ids.slice(10, 12))).rejects.toMatchObject({
      code: "method",
      message: expect.stringMatching(/hnsw\(M=16\).*index=hnsw runs on cpu; take index=exact on webgpu/) as string,
    });
    expect(session.length).toBe(10);
    await model.dispose();
  });
});
