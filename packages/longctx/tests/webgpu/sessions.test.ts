import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Capture, compose, LanguageModel, LongctxError, type Backend, type Method } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { createWebGpu } from "@longctx/core/webgpu";
import { bestTokens, meanMemory } from "../../../core/tests/example-methods.ts";
import { readText, tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { parseMethod } from "../../src/methods.ts";
import { difference, modelOf, tinyIds } from "../devices.ts";
import { gpu, modelOnGpu } from "./model.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, queryHeads: 6 });
const weights = tinyWeights(config);
const reference = modelOf("reference", config, weights);
const ids = tinyIds(60);
const SPECS = [
  "none",
  "rerope:window=7+yarn:factor=4",
  "dynamic-ntk:factor=2",
  "yarn:factor=4+streaming:sinks=2,window=9",
];

afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null)("a session on webgpu", () => {
  let model: LanguageModel;
  let models: LanguageModel[];
  beforeAll(async () => {
    model = await modelOnGpu(config, weights);
    models = [reference, model];
  });

  it.each(SPECS)("forks, goes back, is saved and restored as on the reference: %s", async (spec) => {
    const results: Float32Array[] = [];
    for (const one of models) {
      const options = { method: parseMethod(spec), chunk: 5, capacity: 96 };
      const session = one.session(options);
      await session.prefill(ids.slice(0, 12));
      const logits: Float32Array[] = [];
      const fork = session.fork();
      logits.push(await fork.prefill(ids.slice(30, 37), { logitRows: 7 }));
      if (session.layout.pinned === session.layout.capacity) session.truncate(9);
      logits.push(await session.prefill(ids.slice(12, 30), { logitRows: 18 }));
      const restored = one.restoreSession(await session.save(), options);
      logits.push(await restored.prefill(ids.slice(40, 50), { logitRows: 10 }));
      logits.push(await restored.fork().prefill(ids.slice(50), { logitRows: 10 }));
      logits.push(await fork.prefill([3], { logitRows: 1 }));
      results.push(Float32Array.from(logits.flatMap((part) => [...part])));
      for (const used of [session, fork, restored]) used.dispose();
    }
    expect(difference(results[1], results[0])).toBeLessThan(1e-4);
  });

  const expectSame = (captured: Capture, expected: Capture) => {
    for (const layer of expected.layers) {
      expect(difference(captured.hidden(layer), expected.hidden(layer))).toBeLessThan(1e-4);
      expect(captured.attention(layer)).toHaveLength(expected.attention(layer).length);
      expected.attention(layer).forEach(({ first, count, tokens, weights: probabilities }, i) => {
        expect(captured.attention(layer)[i]).toMatchObject({ first, count, tokens });
        expect(difference(captured.attention(layer)[i].weights, probabilities)).toBeLessThan(1e-4);
      });
    }
  };

  it.each(SPECS)("shows hooks what the reference shows: %s", async (spec) => {
    for (const chunk of [1, 7, 60]) {
      const [expected, captured] = await Promise.all(
        models.map(async (one) => {
          const capture = new Capture({ layers: [0, 1], hidden: true, attention: true });
          const session = one.session({ method: parseMethod(spec), chunk, capacity: 96 });
          await session.prefill(ids.slice(0, 20)); // without a hook: what was read before has to be fetched
          await session.prefill(ids.slice(20), { capture });
          return capture;
        }),
      );
      expectSame(captured, expected);
    }
  });

  it.each(SPECS)("shows them what was read before it was saved and restored: %s", async (spec) => {
    const [expected, captured] = await Promise.all(
      models.map(async (one) => {
        const options = { method: parseMethod(spec), chunk: 7, capacity: 96 };
        const session = one.session(options);
        await session.prefill(ids.slice(0, 20));
        const restored = one.restoreSession(await session.save(), options);
        const capture = new Capture({ layers: [1], hidden: true, attention: true });
        await restored.prefill(ids.slice(20, 40), { capture });
        for (const used of [session, restored]) used.dispose();
        return capture;
      }),
    );
    expectSame(captured, expected);
  });

  it.each<[string, () => Method]>([
    ["retrieval", () => bestTokens(4, config)],
    ["memory", () => meanMemory],
  ])("does what hooks ask for: %s", async (_, make) => {
    for (const chunk of [1, 7]) {
      const method = make(); // its choices are those of the reference
      const read = (one: LanguageModel) =>
        one.session({ method, chunk, capacity: 96 }).prefill(ids, { logitRows: ids.length });
      const expected = await read(reference);
      const computed = await read(model);
      expect(difference(computed, expected)).toBeLessThan(1e-4);
    }
  });

  it("draws the tokens that the logits it leaves on the device give for the same seed", async () => {
    const options = [
      { temperature: 1 },
      { temperature: 0.8, topK: 12, topP: 0.9 },
      { temperature: 1.2, minP: 0.05, repetitionPenalty: 1.3 },
      { repetitionPenalty: 1.5 },
    ];
    const fetching = new LanguageModel({
      backend: withoutSampling(model.backend),
      tokenizer: null,
      chatTemplate: null,
    });
    for (const one of options)
      for (let seed = 0; seed < 5; seed++) {
        const [drawn, fetched] = await Promise.all(
          [model, fetching].map(async (from) => {
            const session = from.session({ capacity: 96 });
            const generation = session.generate({ ...one, seed, prompt: ids.slice(0, 9), maxNew: 16, stopTokens: [] });
            await generation.complete();
            const { lastLogits } = session;
            session.dispose();
            return { ids: generation.ids, lastLogits };
          }),
        );
        expect(drawn).toEqual(fetched);
      }
  });

  it("holds a cache to the last token, and refuses one more", async () => {
    const session = model.session({ capacity: 20, chunk: 7 });
    const straight = await reference.session({ capacity: 20 }).prefill(ids.slice(0, 20), { logitRows: 20 });
    expect(difference(await session.prefill(ids.slice(0, 20), { logitRows: 20 }), straight)).toBeLessThan(1e-4);
    await expect(session.prefill([1])).rejects.toThrow(LongctxError);
    expect(session.length).toBe(20);
  });

  it("keeps keys and values in 16 bits when it may be less exact", async () => {
    const backend = await createWebGpu(config, weights, { device: gpu!, precision: "fast" });
    const exact = await readText(createReference(config, weights), compose(), ids, { chunk: 8 });
    const fast = await readText(backend, compose(), ids, { chunk: 8 });
    const off = difference(fast, exact);
    expect(off).toBeGreaterThan(1e-6);
    expect(off).toBeLessThan(2e-2);
    await backend.dispose();
  });
});

/** The same device, whose logits are read and drawn from on the host. */
function withoutSampling(backend: Backend): Backend {
  return {
    device: backend.device,
    precision: backend.precision,
    config: backend.config,
    preferredChunk: backend.preferredChunk,
    createState: (layouts) => backend.createState(layouts),
    restoreState: (layouts, bytes) => backend.restoreState(layouts, bytes),
    forward: (request) => backend.forward(request),
    dispose: () => backend.dispose(),
  };
}
