import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { Capture, LanguageModel, type Method, type Session } from "@longctx/core";
import { meanMemory } from "../../core/tests/example-methods.ts";
import { load } from "../src/load.ts";
import { methods } from "../src/methods.ts";
import { goldenFolder } from "./definitions/judge.ts";
import { DEVICES, difference, tinyIds, tinyModels } from "./devices.ts";

/** Every kind of cache: plain, two copies of the keys, a table that changes (T is 32), a ring, and a memory. */
const METHODS: readonly string[] = [
  "none",
  "rerope:window=8",
  "rerope:window=8+yarn:factor=4",
  "dynamic-ntk:factor=2",
  "streaming:sinks=2,window=9",
  "streaming:sinks=0,window=6+yarn:factor=4",
  "lm-infinite:sinks=2,window=9",
  "dual-chunk:chunk=10,cap=14",
  "parallel:windows=3",
  "mean-memory",
];
const UNBOUNDED = METHODS.filter((spec) => !/streaming|infinite|memory/.test(spec));
const methodOf = (spec: string): Method[] => (spec === "mean-memory" ? [meanMemory] : methods.parse(spec));
const models = tinyModels();
const [prompt, ...others] = [40, 13, 9, 21].map((count, i) => tinyIds(count, i + 1));

describe.each(DEVICES)("%s", (device) => {
  const model = models[device];
  const start = (spec: string, chunk = 5): Session => model.session({ method: methodOf(spec), chunk, capacity: 96 });
  /** All logits of a continuation, then of three tokens read one by one. */
  const continued = async (session: Session, ids: readonly number[]): Promise<Float32Array> => {
    const logits = [await session.prefill(ids, { logitRows: ids.length })];
    for (const id of [3, 7, 1]) logits.push(await session.prefill([id]));
    return Float32Array.from(logits.flatMap((part) => [...part]));
  };
  const afterPrompt = async (spec: string): Promise<Session> => {
    const session = start(spec);
    await session.prefill(prompt);
    return session;
  };

  it.each(METHODS)("forks continue a prefix as sessions of their own: %s", async (spec) => {
    const trunk = await afterPrompt(spec);
    const forks = others.map(() => trunk.fork());
    const twig = forks[0].fork();
    const results: Float32Array[] = [];
    for (const [i, fork] of forks.entries()) results.push(await continued(fork, others[i]));
    trunk.dispose(); // and outlive it
    results.push(await continued(twig, others[1]));
    const alone: Float32Array[] = [];
    for (const ids of [...others, others[1]]) alone.push(await continued(await afterPrompt(spec), ids));
    results.forEach((result, i) => expect(difference(result, alone[i])).toBe(0));
  });

  it.each(UNBOUNDED)("what follows a truncation does not know what was there: %s", async (spec) => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 9 }), async (kept, chunk) => {
        const session = start(spec, chunk);
        await session.prefill(prompt);
        session.truncate(kept);
        expect(session.length).toBe(kept);
        const fresh = start(spec, chunk);
        // The same table for the whole prompt, though less of it is read.
        if (kept > 0) await fresh.prefill(prompt.slice(0, kept), { length: prompt.length });
        expect(difference(await continued(session, others[0]), await continued(fresh, others[0]))).toBeLessThan(1e-5);
      }),
      { numRuns: 6 },
    );
  });

  it.each(METHODS)("is saved and restored as if nothing had been between: %s", async (spec) => {
    const session = await afterPrompt(spec);
    const bytes = await session.save();
    const options = { method: methodOf(spec), chunk: 5, capacity: 96 };
    const restored = model.restoreSession(bytes, options);
    expect(restored.tokens).toEqual(prompt);
    expect(restored.lastLogits).toEqual(session.lastLogits);
    const twice = model.restoreSession(await restored.save(), options);
    const expected = await continued(session, others[0]);
    expect(difference(await continued(restored, others[0]), expected)).toBeLessThan(1e-5);
    expect(difference(await continued(twice, others[0]), expected)).toBeLessThan(1e-5);
  });

  it.each(METHODS)("a restored session can be looked into, forked and generated from: %s", async (spec) => {
    const session = await afterPrompt(spec);
    const restored = model.restoreSession(await session.save(), { method: methodOf(spec), chunk: 5, capacity: 96 });
    const fork = restored.fork();
    const weights: Float32Array[][] = [];
    for (const one of [session, restored, fork]) {
      const capture = new Capture({ layers: [0, 1], attention: true });
      await one.prefill(others[1].slice(0, 5), { capture });
      weights.push(capture.attention(1).map((part) => part.weights));
    }
    for (const other of weights.slice(1))
      other.forEach((part, i) => expect(difference(part, weights[0][i])).toBeLessThan(1e-5));
    const texts: (readonly number[])[] = [];
    for (const one of [session, restored, fork]) {
      const generation = one.generate({ maxNew: 6, stopTokens: [] });
      await generation.complete();
      texts.push(generation.ids);
    }
    expect(texts[1]).toEqual(texts[0]);
    expect(texts[2]).toEqual(texts[0]);
  });

  it("is restored into a larger cache", async () => {
    const small = model.session({ capacity: 40, chunk: 5 });
    await small.prefill(prompt);
    const large = model.restoreSession(await small.save(), { capacity: 80, chunk: 5 });
    expect(difference(await continued(large, others[0]), await continued(await afterPrompt("none"), others[0]))).toBe(
      0,
    );
  });

  it("steps several sessions in any order as if each were alone", async () => {
    const texts = METHODS.map((_, i) => tinyIds(40, i + 20));
    const alone: Float32Array[] = [];
    for (const [i, spec] of METHODS.entries()) alone.push(await start(spec).prefill(texts[i], { logitRows: 40 }));
    await fc.assert(
      fc.asyncProperty(fc.infiniteStream(fc.nat(METHODS.length - 1)), async (order) => {
        const sessions = METHODS.map((spec) => start(spec));
        const read = METHODS.map(() => [] as Float32Array[]);
        const waiting = new Set(METHODS.keys());
        while (waiting.size > 0) {
          const i = [...waiting][order.next().value % waiting.size];
          const { length } = sessions[i];
          // dynamic-ntk's table depends on the length of the whole text
          const part = texts[i].slice(length, length + 5);
          read[i].push(await sessions[i].prefill(part, { logitRows: 5, length: 40 }));
          if (sessions[i].length === 40) waiting.delete(i);
        }
        read.forEach((parts, i) =>
          expect(difference(Float32Array.from(parts.flatMap((part) => [...part])), alone[i])).toBeLessThan(1e-5),
        );
      }),
      { numRuns: 2 },
    );
  });

  it("reads several sessions of a model at the same time as if each were alone", async () => {
    const texts = METHODS.map((_, i) => tinyIds(40, i + 20));
    const alone: Float32Array[] = [];
    for (const [i, spec] of METHODS.entries()) alone.push(await continued(start(spec), texts[i]));
    const together = await Promise.all(METHODS.map((spec, i) => continued(start(spec), texts[i])));
    together.forEach((logits, i) => expect(difference(logits, alone[i])).toBe(0));
  });

  it("hands out logits that stay as they are while others read", async () => {
    const [a, b] = [start("none"), start("none")];
    const reading = a.forward(prompt, { logitRows: 40 });
    const chunks: number[] = [];
    for await (const chunk of reading) {
      const before = chunk.logits.slice();
      await b.prefill(others[0].slice(0, 3));
      b.truncate(0);
      expect(chunk.logits).toEqual(before);
      chunks.push(...before);
    }
    expect(Float32Array.from(chunks)).toEqual(await start("none").prefill(prompt, { logitRows: 40 }));
  });

  it("generates batches whose rows are sessions of their own", async () => {
    const options = { method: methodOf("rerope:window=8"), capacity: 96, temperature: 0.8, topK: 9, maxNew: 7 };
    const finished: number[] = [];
    const rows = await model.generateBatch([...others, others[0]], {
      ...options,
      seed: 5,
      stopTokens: [],
      onRow: (row) => finished.push(row),
    });
    expect(finished).toEqual([0, 1, 2, 3]);
    for (const [i, ids] of [...others, others[0]].entries()) {
      const single = model.session(options).generate({ ...options, prompt: ids, seed: 5 + i, stopTokens: [] });
      await single.complete();
      expect(rows[i]).toEqual({ ids: single.ids, text: "", reason: single.reason });
    }
    expect(rows[3].ids).not.toEqual(rows[0].ids); // its seed is another one
    const greedy = await model.generateBatch([prompt, others[0], prompt], { maxNew: 5, stopTokens: [] });
    expect(greedy[2]).toEqual(greedy[0]);
  });

  it("goes round a ring many times with any chunks", async () => {
    const text = tinyIds(360, 3);
    const [method] = methods.parse("streaming:sinks=3,window=12");
    const whole = await models.reference.session({ method, chunk: 360 }).prefill(text, { logitRows: 360 });
    for (const chunk of [1, 4, 7, 20]) {
      const session = model.session({ method, chunk });
      expect(session.layout.capacity).toBe(14 + chunk);
      expect(difference(await session.prefill(text, { logitRows: 360 }), whole)).toBeLessThan(1e-4);
      expect(session.room).toBe(Infinity);
    }
  });

  it("follows a table over the trained window while it generates", async () => {
    // In one layer keys and values do not depend on the table, so every step is a text of that length read at once.
    const oneLayer = tinyModels({ layerCount: 1 })[device];
    const [method] = methods.parse("dynamic-ntk:factor=2");
    const session = oneLayer.session({ method, capacity: 96 });
    const generation = session.generate({ prompt: tinyIds(28, 2), maxNew: 12, stopTokens: [] });
    for await (const { id } of generation) {
      const fresh = oneLayer.session({ method, capacity: 96 });
      await fresh.prefill(session.tokens);
      expect(difference(session.lastLogits!, fresh.lastLogits!)).toBeLessThan(1e-5);
      expect(session.length).toBe(27 + generation.ids.length);
      expect(id).toBe(generation.ids.at(-1));
    }
    expect(session.length).toBe(39);
  });
});

it("sessions are not moved from one device to another", async () => {
  const session = models.reference.session({ capacity: 96 });
  await session.prefill(prompt);
  const bytes = await session.save();
  expect(() => models.cpu.restoreSession(bytes)).toThrow(/saved on the device reference, not on cpu/);
  const other = new LanguageModel({
    backend: models.reference.backend,
    tokenizer: null,
    chatTemplate: null,
    trainedWindow: 9,
  });
  expect(() => other.restoreSession(bytes)).toThrow(/another model or another trained window/);
});

it("sessions are not restored with another checkpoint of the same shape", async () => {
  const [llama, again, other] = await Promise.all(
    ["llama", "llama", "llama-bias"].map((name) => load(goldenFolder(name), { device: "reference" })),
  );
  const session = llama.session();
  await session.prefill([1, 2, 3]);
  const bytes = await session.save();
  expect(again.restoreSession(bytes).length).toBe(3);
  expect(() => other.restoreSession(bytes)).toThrow(/other weights of a model of this shape/);
  for (const model of [llama, again, other]) await model.dispose();
});
