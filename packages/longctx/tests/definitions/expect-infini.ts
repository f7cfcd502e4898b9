import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import * as is from "./definitions.ts";
import { infiniLogits, insideSegments, type Infini } from "./dense-infini.ts";
import { denseLogits } from "./dense-llama.ts";
import { textOf } from "./judge.ts";
import { once, randomText, withLearned, type JudgedModel } from "./judged-models.ts";
import { callsOf, expectClose, expectGenerated, optionsOf, readCalls, start, type Place } from "./sequences.ts";

const COMPOSITIONS: readonly (readonly [string, readonly is.Part[]])[] = [
  ["yarn:factor=4", [is.yarn(4)]],
  ["ntk:factor=4", [is.ntk(4)]],
  ["interpolation:factor=4", [is.interpolation(4)]],
];

const specOf = (update: Infini["update"], segment = 16) => `infini:segment=${segment},update=${update},beta=0.3`;
const infini = (update: Infini["update"], segment = 16): Infini => ({ segment, update, beta: () => 0.3 });

interface Setting {
  readonly judged: JudgedModel;
  readonly place: Place;
  readonly ids: readonly number[];
  readonly others: readonly number[];
  readonly model: () => LanguageModel;
  /** Logits by the definition. */
  readonly defined: (text: readonly number[], method: Infini, parts?: readonly is.Part[]) => Float64Array;
  /** Rows of logits from a text index on. */
  readonly after: (first: number, logits: Float64Array) => Float64Array;
}

/** What is tested of a model: `sequences` are those updates under which it is also forked, truncated and saved. */
interface Scope {
  readonly sequences: readonly Infini["update"][];
}

/** Tests that a model reads a text under `infini` as the definition says, in every way of reading. */
export function expectInfini(judged: JudgedModel, place: Place, { sequences }: Scope): void {
  const setting = settingOf(judged, place);
  describe.each(["linear", "delta"] as const)("%s", (update) => {
    expectTexts(setting, update);
    if (sequences.includes(update)) expectSequences(setting, update);
  });
  expectGates(setting);
}

function settingOf(judged: JudgedModel, place: Place): Setting {
  const { llama, config, weights } = judged;
  let model: LanguageModel;
  beforeAll(async () => void (model = await place.open(config, weights)));
  afterAll(() => model.dispose());
  return {
    judged,
    place,
    ids: randomText(judged, 160, 7),
    others: randomText(judged, 40, 8),
    model: () => model,
    defined: (text, method, parts = []) => {
      const gates = Array.from({ length: llama.layers * llama.queryHeads }, (_, i) =>
        method.beta(Math.floor(i / llama.queryHeads), i % llama.queryHeads),
      );
      const dense = () => infiniLogits(llama, text, method, textOf(llama, text.length, config.trainedWindow), parts);
      // Parts are functions, so compositions are not remembered.
      return parts.length > 0 ? dense() : once(judged, JSON.stringify([text, method, gates]), dense);
    },
    after: (first, logits) => logits.subarray(first * config.vocabSize),
  };
}

function expectTexts({ place, ids, model, defined }: Setting, update: Infini["update"]): void {
  it.each([
    [16, [1, 7, 64, 160]],
    [32, [7, 64]],
  ])("in chunks, segments of %i", async (segment, chunks) => {
    const expected = defined(ids, infini(update, segment));
    for (const length of [48, 160])
      for (const chunk of chunks) {
        const session = start(model(), specOf(update, segment), chunk);
        const computed = await readCalls(session, ids.slice(0, length));
        expectClose(computed, expected.subarray(0, computed.length), place);
        session.dispose();
      }
  });

  it.each(Object.entries(callsOf(160)).slice(1))("%s", async (_, calls) => {
    expectClose(await readCalls(start(model(), specOf(update), 64), ids, calls), defined(ids, infini(update)), place);
  });

  it("while generating", async () => {
    const session = start(model(), specOf(update), 64);
    await session.prefill(ids.slice(0, 45));
    await expectGenerated(session, 21, (text) => defined(text, infini(update)), place);
  });
}

function expectSequences({ place, ids, others, model, defined, after }: Setting, update: Infini["update"]): void {
  /** Logits of what follows the first `length` tokens. */
  const following = (length: number, text: readonly number[] = [...ids.slice(0, length), ...others]) =>
    after(length, defined(text, infini(update)));
  const startAt = async (length: number, chunk: number) => {
    const session = start(model(), specOf(update), chunk);
    await session.prefill(ids.slice(0, length));
    return session;
  };

  it.each([40, 48])("after a fork of %i tokens, in both branches and in a branch of a branch", async (length) => {
    const trunk = await startAt(length, 7);
    const branch = trunk.fork();
    const begun = await readCalls(branch, others.slice(0, 20));
    const twig = branch.fork();
    expectClose(await readCalls(trunk, ids.slice(length)), following(length, ids), place);
    trunk.dispose();
    expectClose(begun, following(length).subarray(0, begun.length), place);
    for (const one of [twig, branch])
      expectClose(await readCalls(one, others.slice(20), [1, 1, 18]), following(length).subarray(begun.length), place);
  });

  // Token 48 writes segment [32, 48) to the memory.
  it.each([
    [40, 33],
    [48, 37],
    [48, 32],
    [49, 48],
  ])("after truncation of %i tokens to %i, which takes nothing back from the memory", async (length, kept) => {
    const session = await startAt(length, 64);
    session.truncate(kept);
    expect(session.length).toBe(kept);
    expectClose(await readCalls(session, others, [5, 1, 34]), following(kept), place);
  });

  it("refuses to truncate where a written memory would have to come back, and is as it was", async () => {
    const session = await startAt(49, 64);
    for (const kept of [47, 33, 5])
      expect(() => session.truncate(kept)).toThrow(expect.objectContaining({ name: "LongctxError", code: "capacity" }));
    expect(session.length).toBe(49);
    expectClose(await readCalls(session, others), following(49), place);
  });

  it.each([40, 48, 49])("after it is saved and restored with %i tokens", async (length) => {
    const session = await startAt(length, 7);
    const bytes = await session.save();
    const options = { ...optionsOf(specOf(update)), chunk: 7 };
    const restored = model().restoreSession(bytes, options);
    const twice = model().restoreSession(await restored.save(), options);
    for (const one of [session, restored, twice.fork()])
      expectClose(await readCalls(one, others, [1, 39]), following(length), place);
  });
}

function expectGates({ judged, place, ids, model, defined }: Setting): void {
  const { llama, config, weights } = judged;
  const calls = [100, 59, 1];

  it.each(COMPOSITIONS)("with %s", async (spec, parts) => {
    const session = start(model(), `${spec}+${specOf("linear")}`, 64);
    expectClose(await readCalls(session, ids, calls), defined(ids, infini("linear"), parts), place);
  });

  it("gates that the checkpoint learned, one a query head, and a parameter in their place", async () => {
    const gates = Array.from({ length: llama.layers }, (_, layer) =>
      Array.from({ length: llama.queryHeads }, (_gate, head) => Math.fround(Math.sin(5 * layer + 2 * head) * 2)),
    );
    const learned = await place.open(config, withLearned(weights, "infini_gate", gates));
    const method: Infini = { segment: 16, update: "delta", beta: (layer, head) => gates[layer][head] };
    const session = start(learned, "infini:segment=16,update=delta", 64);
    expectClose(await readCalls(session, ids, calls), defined(ids, method), place);
    const given = start(learned, specOf("delta"), 64);
    expectClose(await readCalls(given, ids, calls), defined(ids, infini("delta")), place);
    await learned.dispose();
  });

  it("a closed gate is attention inside segments, an open one the memory alone", async () => {
    const text = textOf(llama, ids.length, config.trainedWindow);
    const local = denseLogits(llama, ids, is.define([insideSegments(16)], text));
    const closed = start(model(), "infini:segment=16,update=linear,beta=-1000", 64);
    expectClose(await readCalls(closed, ids, calls), local, place);
    const memory = defined(ids, { ...infini("delta"), beta: () => 1000 });
    const open = start(model(), "infini:segment=16,update=delta,beta=1000", 64);
    expectClose(await readCalls(open, ids, calls), memory, place);
  });

  it("refuses a checkpoint without gates when none is given", () => {
    expect(() => start(model(), "infini:segment=16", 64)).toThrow(
      expect.objectContaining({ name: "LongctxError", code: "method" }),
    );
  });
}
