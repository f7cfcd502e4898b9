import { describe, expect, it } from "vitest";
import { LanguageModel, LongctxError, Weights, type WeightTensor } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { headsFor, measureHeads, readHeads, writeHeads, type HeadProbe } from "../../src/index.ts";

const shape = { queryHeads: 4, keyHeads: 2, headSize: 26, hiddenSize: 24, vocabSize: 64, maxPositions: 128 };
const config = tinyConfig({ ...shape, trainedWindow: 128, rope: { type: "default", base: 1e4, rotarySize: 2 } });

/**
 * Two layers that leave the residual stream alone, so that both see the embeddings. Head 2 of layer 1 attends to tokens
 * that are its own: its queries and keys are the embeddings, large, behind two rotated channels that are 0.
 */
function plantedModel(): LanguageModel {
  const weights = tinyWeights(config);
  const tensors = new Map([...weights.names()].map((name) => [name, weights.find(name)!]));
  const change = (name: string, value: (row: number, column: number, old: number) => number) => {
    const tensor = weights.find(name)!;
    const [rows, columns = 1] = tensor.shape;
    const old = tensor.toFloat32();
    const values = Float32Array.from({ length: rows * columns }, (_, i) => value(Math.floor(i / columns), i % columns, old[i])); // prettier-ignore
    const changed: WeightTensor = { ...tensor, bytes: () => new Uint8Array(values.slice().buffer), toFloat32: () => values.slice() }; // prettier-ignore
    tensors.set(name, changed);
  };
  for (const layer of [0, 1]) {
    change(`layers.${layer}.output`, () => 0);
    change(`layers.${layer}.down`, () => 0);
  }
  const { headSize: D } = config;
  const same = (head: number) => (row: number, column: number, old: number) =>
    Math.floor(row / D) !== head ? old : row % D === column + 2 ? 2 : 0;
  change("layers.1.query", same(2));
  change("layers.1.key", same(1)); // query heads 2 and 3 share key head 1
  return new LanguageModel({
    backend: createReference(config, new Weights(tensors)),
    tokenizer: null,
    chatTemplate: null,
  });
}

/** Twelve sentences of five tokens; the needle has token `said`, and the question, the last two tokens, `asked`. */
function probe(trial: number, asked: (said: number) => number = (said) => said): HeadProbe {
  const said = 40 + (trial % 20);
  const needle = (trial * 5) % 12;
  const ids = Array.from({ length: 60 }, (_, i) => (i === needle * 5 + 2 ? said : 3 + ((i * 7 + trial * 13) % 33)));
  return {
    kind: trial % 3 === 0 ? "third" : "other",
    heldOut: trial % 2 === 1,
    ids: [1, ...ids, asked(said), 2],
    sentences: Array.from({ length: 12 }, (_, i) => ({ from: 1 + 5 * i, to: 6 + 5 * i })),
    needle: { from: 1 + 5 * needle, to: 6 + 5 * needle },
    question: { from: 61, to: 63 },
  };
}

const model = plantedModel();
const probes = Array.from({ length: 24 }, (_, trial) => probe(trial));

describe("measureHeads", () => {
  it("finds a planted head, and only this one", async () => {
    const results = await measureHeads(model, probes, { phrase: 1 });
    expect(results).toMatchObject({ read: 24, planned: 24, phrase: 1, best: [[1, 2]] });
    const [first, second] = results.heads;
    expect(first).toMatchObject({
      head: [1, 2],
      chosen: { prompts: 12, first: 1 },
      heldOut: { prompts: 12, first: 1 },
      kinds: { third: { prompts: 4, first: 1 }, other: { prompts: 8, first: 1 } },
    });
    // The planted head puts nearly all of one row's attention on one token.
    expect(first.heldOut.worst).toBeGreaterThan(3);
    expect(second.heldOut.first).toBeLessThan(0.6);
    expect(results.heads).toHaveLength(8);
    expect(results.sets.map(({ heads }) => heads.length)).toEqual([2, 2, 2, 2, 2, 3, 4]);
    expect(results.sets[0].heads).toContainEqual([1, 2]);
  });

  it("takes attention that a capture gets in any chunks", async () => {
    const whole = await measureHeads(model, probes.slice(0, 4));
    for (const chunk of [7, 62]) expect(await measureHeads(model, probes.slice(0, 4), { chunk })).toEqual(whole);
  });

  it("chooses by one half and judges by the other", async () => {
    // The half that is held out asks for a token that the text does not have.
    const mixed = probes.map((one, trial) => (one.heldOut ? probe(trial, () => 62) : one));
    const { best, heads } = await measureHeads(model, mixed, { phrase: 1 });
    expect(best).toEqual([[1, 2]]);
    expect(heads[0]).toMatchObject({ head: [1, 2], chosen: { first: 1 } });
    expect(heads[0].heldOut.first).toBeLessThan(0.5);
  });

  it("measures the heads of the first layers alone, as they are with all", async () => {
    const all = await measureHeads(model, probes, { phrase: 1 });
    const first = await measureHeads(model, probes, { phrase: 1, layers: 1 });
    expect(first.heads).toEqual(all.heads.filter(({ head: [layer] }) => layer === 0));
    expect(first.best.every(([layer]) => layer === 0)).toBe(true);
    for (const layers of [0, 1.5, 3])
      await expect(measureHeads(model, probes, { layers })).rejects.toThrow(/whole number from 1 to 2/);
  });

  it("says what given heads find, and uses them", async () => {
    const { best, sets, heads } = await measureHeads(model, probes.slice(0, 8), { phrase: 1, use: [[1, 3], [0, 1]] }); // prettier-ignore
    expect(best).toEqual([[0, 1], [1, 3]]); // prettier-ignore
    expect(sets[0].heads).toEqual([[1, 3], [0, 1]]); // prettier-ignore
    expect(heads[0].head).toEqual([1, 2]);
    const single = await measureHeads(model, probes.slice(0, 8), { phrase: 1, use: [[1, 3]] });
    const alone = heads.find(({ head }) => head.join(".") === "1.3")!;
    expect(single.sets[0]).toEqual({
      heads: [[1, 3]],
      chosen: alone.chosen,
      heldOut: alone.heldOut,
      kinds: alone.kinds,
    });
    await expect(measureHeads(model, probes, { use: [[1, 4]] })).rejects.toThrow(
      /1.4 is none; name heads from 0.0 to 1.3/,
    );
    await expect(measureHeads(model, probes, { use: [] })).rejects.toThrow(/heads to use are none/);
  });

  it("looks at the question's rows alone", async () => {
    // Asked by the last token only, which is no needle's, the planted head finds nothing.
    const blind = probes.map((one) => ({ ...one, question: { from: 62, to: 63 } }));
    const { heads } = await measureHeads(model, blind, { phrase: 1 });
    expect(heads.find(({ head }) => head.join(".") === "1.2")!.heldOut.first).toBeLessThan(0.5);
  });

  it("stops after the prompt at hand and reports what was read", async () => {
    const controller = new AbortController();
    const onProgress = (done: number) => done === 7 && controller.abort();
    const stopped = await measureHeads(model, probes, { phrase: 1, signal: controller.signal, onProgress });
    const short = await measureHeads(model, probes.slice(0, 7), { phrase: 1 });
    expect(stopped).toEqual({ ...short, planned: 24 });
    await expect(measureHeads(model, probes, { signal: AbortSignal.abort() })).rejects.toThrow(
      /Stopped after 0 prompts, before there was one of each half/,
    );
  });

  it.each([
    ["a prompt beyond training", { ids: Array.from({ length: 200 }, () => 3) }, /200 tokens \(third\), but the model is trained at 128/], // prettier-ignore
    ["a prompt without another sentence", { sentences: [{ from: 1, to: 6 }] }, /has 1 sentences, 1 of them the needle's/], // prettier-ignore
    ["a prompt without its needle", { needle: { from: 61, to: 62 } }, /has 12 sentences, 0 of them the needle's/],
    ["a question in the text", { question: { from: 40, to: 62 } }, /asks in tokens 40 to 62/],
    ["no question", { question: { from: 62, to: 62 } }, /asks in tokens 62 to 62/],
  ])("refuses %s", async (_, change, message) => {
    const [first, ...others] = probes;
    const error = await measureHeads(model, [{ ...first, ...change }, ...others]).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(LongctxError);
    expect((error as LongctxError).message).toMatch(message);
  });

  it("refuses half a set of prompts and half a phrase", async () => {
    const half = probes.filter(({ heldOut }) => heldOut);
    await expect(measureHeads(model, half)).rejects.toThrow(/Of 12 probes none is left to choose heads by/);
    await expect(measureHeads(model, probes, { phrase: 1.5 })).rejects.toThrow(/A phrase of 1.5 tokens/);
  });
});

describe("writeHeads", () => {
  it("writes what a reader reads, and what was measured", async () => {
    const results = await measureHeads(model, probes.slice(0, 8), { phrase: 1 });
    const text = writeHeads(model, { name: "planted", length: 63, seed: 1, kinds: ["third"], method: "none" }, results);
    const content = JSON.parse(text) as {
      readonly heads: unknown[];
      readonly sets: unknown[];
      readonly measured: object;
    };
    const file = readHeads(content, "planted.json");
    expect(headsFor(file, config)).toEqual(results.best);
    expect(file.model).toEqual({ name: "planted", modelType: "llama", vocabSize: 64, hiddenSize: 24, layerCount: 2, queryHeads: 4, keyHeads: 2, headSize: 26, weights: null }); // prettier-ignore
    expect(content.measured).toMatchObject({
      prompts: 8,
      planned: 8,
      length: 63,
      phrase: 1,
      seed: 1,
      device: "reference",
    });
    const [{ head, heldOut, chosen, kinds }] = results.heads;
    const digits = (value: number) => Number(value.toPrecision(4));
    expect(content.heads).toHaveLength(8);
    expect(content.heads[0]).toEqual({
      layer: head[0],
      head: head[1],
      first: heldOut.first,
      median: digits(heldOut.median),
      worst: digits(heldOut.worst),
    });
    expect(text.match(/^ {4}\{"layer":/gm)).toHaveLength(8); // a line for each head
    // All eight single heads, then five pairs, a set of three and one of four.
    expect(content.sets).toHaveLength(8 + 5 + 2);
    const row = ({ prompts, first, median, worst }: typeof chosen) => [prompts, digits(first), digits(median), digits(worst)]; // prettier-ignore
    expect(content.sets[0]).toEqual({
      heads: [head],
      chosen: row(chosen),
      heldOut: row(heldOut),
      kinds: { third: row(kinds["third"]), other: row(kinds["other"]) },
    });
    expect(content.sets[8]).toMatchObject({ heads: results.sets[0].heads });
  });
});
