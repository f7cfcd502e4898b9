import { describe, expect, it } from "vitest";
import { LanguageModel, type Precision, type Session } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { hnswIndex } from "@longctx/retrieval";
import { methods, parseMethod } from "../src/methods.ts";
import { difference, tinyIds } from "./devices.ts";

const config = tinyConfig({
  maxPositions: 1024,
  queryHeads: 6,
  keyHeads: 3,
  headSize: 8,
  rope: { type: "default", base: 100, rotarySize: 8 },
});
const weights = tinyWeights(config);
const cpuOf = (precision: Precision = "exact") =>
  new LanguageModel({
    backend: createCpu(config, weights, { threads: 2, precision }),
    tokenizer: null,
    chatTemplate: null,
  });
const model = cpuOf();
/** A text that is long enough for the index to build a graph: it adds keys to a graph in blocks of 256. */
const text = tinyIds(440, 3);
/** With so many candidates a graph finds all, so that what it finds is what all scores find. */
const ALL = "index=hnsw,M=8,efConstruction=100,ef=600";
const SPECS = {
  "one softmax": "knn:k=6,window=24",
  "one layer": "knn:k=6,window=24,layers=1,positions=none",
  "positions of the text": "knn:k=6,window=24,positions=true",
  "cosines under a gate": "knn:k=6,window=24,merge=gate,gate=0.5,scale=4",
};
const open = (spec: string, of = model) => of.session({ method: methods.parse(spec), chunk: 64, capacity: 512 });
/** Logits of tokens that are read one by one. */
async function read(session: Session, ids: readonly number[]): Promise<Float32Array> {
  const logits: number[] = [];
  for (const id of ids) logits.push(...(await session.prefill([id])));
  return Float32Array.from(logits);
}

/** The library is an optional one. */
const available = (() => {
  try {
    hnswIndex().create(1).dispose();
    return true;
  } catch {
    return false;
  }
})();

describe.skipIf(!available)("an index of keys", () => {
  it.each(Object.entries(SPECS))("that finds all is as good as all scores: %s", async (_, spec) => {
    const [exact, indexed] = [open(spec), open(`${spec},${ALL}`)];
    for (const session of [exact, indexed]) await session.prefill(text.slice(0, 400));
    expect(indexed.bytesByPart.index).toBeGreaterThan(exact.bytesByPart.index);
    const expected = await read(exact, text.slice(400, 425));
    expect(difference(await read(indexed, text.slice(400, 425)), expected)).toBeLessThan(1e-4);
  });

  it("goes on in forks, after truncation, and after it was saved and restored", async () => {
    const spec = SPECS["one softmax"];
    const [exact, indexed] = [open(spec), open(`${spec},${ALL}`)];
    for (const session of [exact, indexed]) {
      await session.prefill(text.slice(0, 380));
      await session.fork().prefill(text.slice(0, 50)); // what a fork reads is its own
    }
    const method = methods.parse(`${spec},${ALL}`);
    const restored = model.restoreSession(await indexed.save(), { method, chunk: 64, capacity: 512 });
    const twice = model.restoreSession(await restored.save(), { method, chunk: 64, capacity: 512 });
    expect(twice.bytesByPart.index).toBeGreaterThan(0);
    const expected = await read(exact.fork(), text.slice(380, 395));
    for (const session of [indexed.fork(), restored, twice])
      expect(difference(await read(session, text.slice(380, 395)), expected)).toBeLessThan(1e-4);
    // Tokens that were indexed are within the window of what is read now.
    for (const session of [exact, indexed]) session.truncate(366);
    const others = tinyIds(40, 9);
    const after = await read(exact, others);
    expect(difference(await read(indexed, others), after)).toBeLessThan(1e-4);
    for (const session of [exact, indexed]) {
      session.truncate(0);
      await session.prefill(text.slice(0, 350));
    }
    expect(difference(await read(indexed, others), await read(exact, others))).toBeLessThan(1e-4);
    indexed.dispose();
    expect(indexed.bytes).toBe(0);
  });

  it("is made for a text that is read token by token too, and works in 8 bits", async () => {
    const spec = SPECS["one layer"];
    const [exact, indexed] = [open(spec), open(`${spec},${ALL}`)];
    const ids = text.slice(0, 60);
    expect(difference(await read(indexed, ids), await read(exact, ids))).toBeLessThan(1e-4);
    const fast = open(`${spec},${ALL}`, cpuOf("fast"));
    await fast.prefill(text.slice(0, 400));
    expect((await read(fast, text.slice(400, 403))).every(Number.isFinite)).toBe(true);
  });

  it("belongs to the cpu", async () => {
    const reference = new LanguageModel({
      backend: createReference(config, weights),
      tokenizer: null,
      chatTemplate: null,
    });
    const session = open("knn:window=8,index=hnsw", reference);
    await expect(session.prefill(text.slice(0, 40))).rejects.toThrow(
      /index=hnsw runs on cpu; take index=exact on reference/,
    );
  });

  it("refuses tables that change with the length where keys keep their positions", () => {
    const far = "knn:window=8,index=hnsw,positions=true";
    expect(() => parseMethod(`dynamic-ntk:factor=2+${far}`)).toThrow(/the table has to stay/);
    expect(() => parseMethod(`dynamic-ntk:factor=2+${far.replace("hnsw", "exact")}`)).not.toThrow();
    const dynamic = { ...config, rope: { type: "dynamic", base: 100, rotarySize: 8, factor: 2 } } as const;
    const other = new LanguageModel({ backend: createCpu(dynamic, weights, { threads: 1 }), tokenizer: null, chatTemplate: null }); // prettier-ignore
    expect(() => open(far, other)).toThrow(/whose table follows the length/);
  });

  it("refuses numbers that make no graph", () => {
    expect(() => methods.parse("knn:window=8,index=hnsw,M=20,efConstruction=10")).toThrow(/efConstruction is 10/);
  });
});
