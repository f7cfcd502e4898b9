import { describe, expect, it } from "vitest";
import { LanguageModel, learnedForMethods, LongctxError, Weights } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { largestDifference, tinyConfig, tinyIds, tinyWeights } from "../../core/tests/tiny-model.ts";
import { rerope } from "../../rope/src/index.ts";
import { infini } from "../src/index.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, queryHeads: 6, keyHeads: 3, hiddenSize: 48 });
const model = new LanguageModel({
  backend: createReference(config, tinyWeights(config)),
  tokenizer: null,
  chatTemplate: null,
});
const ids = tinyIds(100);
const last = (logits: Float32Array) => logits.slice(-config.vocabSize);

describe.each(["linear", "delta"] as const)("infini, %s", (update) => {
  const method = infini({ segment: 16, update, beta: 0.3 });
  const read = (chunk: number) => model.session({ method, chunk }).prefill(ids, { logitRows: ids.length });

  it("does not depend on the chunk", async () => {
    const whole = await read(100);
    for (const chunk of [1, 7, 16, 64]) expect(largestDifference(await read(chunk), whole)).toBeLessThan(1e-6);
  });

  it("holds one segment and a chunk, and a memory of constant size, however long the text is", async () => {
    const session = model.session({ method, chunk: 8 });
    await session.prefill(ids.slice(0, 40));
    const { bytesByPart } = session;
    await session.prefill(ids.slice(40));
    expect(session.bytesByPart).toEqual(bytesByPart);
    expect(bytesByPart.memory).toBe(2 * 3 * (8 * 8 + 8) * 8); // layers, key heads, M and z, float64
    expect(session.layout).toMatchObject({ capacity: 24, pinned: 0 });
    expect(session.room).toBe(Infinity);
  });

  it("forks, saves, and truncates within the segment that is not written yet", async () => {
    const whole = await read(100);
    const session = model.session({ method, chunk: 7 });
    await session.prefill(ids.slice(0, 60));
    const [fork, bytes] = [session.fork(), await session.save()];
    await fork.prefill(ids.slice(20, 23));
    fork.truncate(50);
    expect(largestDifference(last(await fork.prefill(ids.slice(50))), last(whole))).toBeLessThan(1e-6);
    const restored = model.restoreSession(bytes, { method, chunk: 3 });
    expect(largestDifference(last(await restored.prefill(ids.slice(60))), last(whole))).toBeLessThan(1e-6);
    expect(() => session.truncate(40)).toThrow(LongctxError);
    expect(() => session.truncate(40)).toThrow(/first 48 tokens are written to the compressive memory/);
    expect(session.length).toBe(60);
    session.truncate(48);
    expect(largestDifference(last(await session.prefill(ids.slice(48))), last(whole))).toBeLessThan(1e-6);
    session.truncate(0);
    expect(largestDifference(last(await session.prefill(ids)), last(whole))).toBeLessThan(1e-6);
  });
});

it("leaves its segments to distance methods", async () => {
  const closed = infini({ segment: 16, beta: -1000 });
  const near = model.session({ method: [rerope({ window: 8 }), closed] });
  const plain = model.session({ method: rerope({ window: 8 }) });
  expect(largestDifference(await near.prefill(ids.slice(0, 16)), await plain.prefill(ids.slice(0, 16)))).toBeLessThan(1e-6); // prettier-ignore
});

describe("gates", () => {
  it("that are closed leave local attention alone", async () => {
    const closed = await model.session({ method: infini({ segment: 16, beta: -1000 }) }).prefill(ids.slice(0, 16));
    const plain = await model.session().prefill(ids.slice(0, 16));
    expect(largestDifference(closed, plain)).toBeLessThan(1e-6);
  });

  it("are asked of the checkpoint, and missed in a sentence", () => {
    expect(() => model.session({ method: infini({ segment: 16 }) })).toThrow(/none is known here; give beta/);
    const learned = new Map(
      [0, 1].map((layer) => [`layers.${layer}.method.infini_gate`, new Float32Array(6)] as const),
    );
    const context = { config, trainedWindow: 32, learned };
    const method = infini({ segment: 16 });
    method.check!(context);
    expect(method.memory!(context)).toBe(method.memory!({ ...context })); // one object for all chunks
    expect(() => method.check!({ ...context, learned: new Map() })).toThrow(/no gates of layer 0 .*or give beta/);
    const tensor = (shape: number[], values: number[]): Weights =>
      new Weights(new Map([["layers.0.method.infini_gate", { name: "gate", type: "F32", shape, bytes: () => new Uint8Array(), toFloat32: () => Float32Array.from(values) }]])); // prettier-ignore
    expect([...learnedForMethods(tensor([2], [1, 2])).values()]).toEqual([Float32Array.of(1, 2)]);
    expect(() => learnedForMethods(tensor([1, 2], [1, 2]))).toThrow(/gate has the shape \[1, 2\]/);
    expect(() => learnedForMethods(tensor([2], [1, NaN]))).toThrow(/gate has NaN at 1/);
    const short = new Map([["layers.0.method.infini_gate", new Float32Array(3)]]);
    expect(() => method.check!({ ...context, learned: short })).toThrow(/3 gates in layer 0, but .* 6 query heads/);
  });
});
