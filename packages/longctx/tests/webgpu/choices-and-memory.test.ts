import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Capture, LanguageModel, type ModelConfig, type Session, type Weights } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyWeights } from "../../../core/tests/tiny-model.ts";
import { parseMethod } from "../../src/methods.ts";
import { difference } from "../definitions/judge.ts";
import { readGolden } from "../read-golden.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

const METHODS = [
  "infini:segment=16,update=linear,beta=0.3",
  "infini:segment=16,update=delta,beta=0.3",
  "infini:segment=32,update=delta,beta=-1",
  "blocks:size=8,top=2,local=16,sinks=2,exec=16,positions=constant",
  "blocks:size=8,top=3,local=16,sinks=2,exec=16,positions=ordered",
  "yarn:factor=4+infini:segment=16,update=delta,beta=0.3",
  "yarn:factor=4+blocks:size=4,top=5,local=12,sinks=2,exec=16,positions=constant",
];

/** One of each kind, and one whose table multiplies what it rotates. */
const SOME = [METHODS[1], METHODS[4], METHODS[6]];

/** Heads that a multiple of four does not divide, norms of q and k, amplitudes, a part of the channels rotated. */
const MODELS = ["llama", "llama-odd-sizes", "qwen3", "phi3-partial-rotary", "llama-rope-yarn-mscale", "tiny"];

async function modelOf(name: string): Promise<{ config: ModelConfig; weights: Weights }> {
  if (name !== "tiny") return readGolden(name);
  const config = tinyConfig({ queryHeads: 6, keyHeads: 3, hiddenSize: 36 });
  return { config, weights: tinyWeights(config) };
}

/** How a text is read and changed: each step answers with logits. */
type Steps = (session: Session, ids: readonly number[], model: LanguageModel) => Promise<readonly Float32Array[]>;

const STEPS: Readonly<Record<string, Steps>> = {
  "48 tokens": async (session, ids) => [await session.prefill(ids.slice(0, 48), { logitRows: 48 })],
  "160 tokens": async (session, ids) => [await session.prefill(ids.slice(0, 160), { logitRows: 160 })],
  "160 tokens, the last 40 one by one": async (session, ids) => {
    const all = [await session.prefill(ids.slice(0, 120), { logitRows: 5 })];
    for (const id of ids.slice(120, 160)) all.push(await session.prefill([id]));
    return all;
  },
  "after a fork, both ways": async (session, ids) => {
    await session.prefill(ids.slice(0, 90));
    const fork = session.fork();
    const [own, other] = [await session.prefill(ids.slice(90, 130)), await fork.prefill(ids.slice(60, 130))];
    fork.dispose();
    return [own, other, await session.prefill(ids.slice(130, 140))];
  },
  "after it was truncated": async (session, ids) => {
    await session.prefill(ids.slice(0, 77));
    session.truncate(70);
    return [await session.prefill(ids.slice(90, 150), { logitRows: 60 })];
  },
  "after it was saved and restored": async (session, ids, model) => {
    await session.prefill(ids.slice(0, 101));
    const restored = model.restoreSession(await session.save(), { ...session.options, method: session.method });
    const logits = await restored.prefill(ids.slice(101, 150), { logitRows: 49 });
    restored.dispose();
    return [logits, await session.prefill(ids.slice(101, 150), { logitRows: 49 })];
  },
  "while somebody looks at the attention": async (session, ids) => {
    const capture = new Capture({ layers: [0, 1], attention: true });
    const logits = await session.prefill(ids.slice(0, 100), { logitRows: 100, capture });
    return [logits, await session.prefill(ids.slice(100, 120), { logitRows: 20 })];
  },
};

const BY_TOKENS = "160 tokens, the last 40 one by one";
const CHANGES = Object.keys(STEPS).filter((step) => !step.includes("tokens"));

describe.skipIf(gpu === null).each(MODELS)("webgpu: choices and memories of %s", (name) => {
  let reference: LanguageModel;
  let computing: LanguageModel;
  let ids: readonly number[];
  beforeAll(async () => {
    const { config, weights } = await modelOf(name);
    const backend = createReference(config, weights);
    reference = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
    computing = await modelOnGpu(config, weights);
    ids = Array.from({ length: 160 }, (_, i) => (i * 7919 + ((i * i) % 13)) % config.vocabSize);
  });

  async function read(
    model: LanguageModel,
    spec: string,
    step: string,
    chunk: number,
  ): Promise<readonly Float32Array[]> {
    const session = model.session({ method: parseMethod(spec), capacity: 256, chunk });
    const logits = await STEPS[step](session, ids, model);
    session.dispose();
    expect(session.bytes).toBe(0);
    return logits;
  }

  async function expectSame(spec: string, step: string, chunks: readonly number[]): Promise<void> {
    const expected = await read(reference, spec, step, 64);
    for (const chunk of chunks) {
      const computed = await read(computing, spec, step, chunk);
      computed.forEach((logits, i) => expect(difference(logits, expected[i])).toBeLessThan(TOLERANCE));
    }
  }

  it.each(name === "llama" ? METHODS : SOME)("in a chunk and token by token: %s", (spec) =>
    expectSame(spec, BY_TOKENS, [64]),
  );

  if (name !== "llama") return;

  it.each(METHODS.slice(1, 5))("whatever the chunk: %s", async (spec) => {
    await expectSame(spec, "48 tokens", [1, 7, 64]);
    await expectSame(spec, "160 tokens", [7, 256]);
  });

  it.each(METHODS.slice(1, 5).flatMap((spec) => CHANGES.map((step) => [step, spec] as const)))("%s: %s", (step, spec) =>
    expectSame(spec, step, [16]),
  );
});
