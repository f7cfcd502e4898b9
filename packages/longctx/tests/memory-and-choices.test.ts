import { describe, expect, it } from "vitest";
import { LanguageModel, type ModelConfig, type Precision, type Session } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { tinyConfig, tinyWeights } from "../../core/tests/tiny-model.ts";
import { methods } from "../src/methods.ts";
import { difference, tinyIds } from "./devices.ts";

/** Three key heads of six query heads, in sizes that kernels treat apart. */
const SHAPES: Readonly<Record<string, Pick<ModelConfig, "headSize" | "rope">>> = {
  "heads of 8": { headSize: 8, rope: { type: "default", base: 100, rotarySize: 8 } },
  "heads of 20, 14 channels of them rotary": { headSize: 20, rope: { type: "default", base: 100, rotarySize: 14 } },
  "heads of 6, which have no kernels for single tokens": { headSize: 6, rope: { type: "default", base: 100, rotarySize: 6 } }, // prettier-ignore
};
const SPECS = [
  "infini:segment=16,update=linear,beta=0.3",
  "yarn:factor=4+infini:segment=32,update=delta,beta=-1",
  "yarn:factor=4+blocks:size=4,top=3,local=12,sinks=1,exec=8,positions=constant",
  "blocks:size=8,top=2,local=16,sinks=2,exec=16,positions=ordered",
];
const text = tinyIds(160, 3);

/** What opens sessions of a method on the reference, and on a processor with either precision. */
function openers(shape: Partial<ModelConfig>, spec: string) {
  const config = tinyConfig({ maxPositions: 512, queryHeads: 6, keyHeads: 3, ...shape });
  const weights = tinyWeights(config);
  const method = methods.parse(spec);
  const modelOf = (precision?: Precision) =>
    new LanguageModel({
      backend: precision ? createCpu(config, weights, { threads: 2, precision }) : createReference(config, weights),
      tokenizer: null,
      chatTemplate: null,
    });
  const models = { judge: modelOf(), exact: modelOf("exact"), fast: modelOf("fast") };
  const open = (which: keyof typeof models, chunk: number) => models[which].session({ method, chunk, capacity: 256 });
  return { open, models, method };
}

/** All logits: 141 tokens in chunks, then token by token. */
async function read(session: Session): Promise<Float32Array> {
  const logits = [...(await session.prefill(text.slice(0, 141), { logitRows: 141 }))];
  for (const id of text.slice(141)) logits.push(...(await session.prefill([id])));
  return Float32Array.from(logits);
}

describe.each(Object.entries(SHAPES))("memories and choices: %s", (_, shape) => {
  it.each(SPECS)("%s equals the reference, whatever the chunk", async (spec) => {
    const { open } = openers(shape, spec);
    const expected = await read(open("judge", 64));
    for (const chunk of [1, 7, 64]) expect(difference(await read(open("exact", chunk)), expected)).toBeLessThan(1e-4);
    // Keys and values of 8 bits may choose another block, and then any difference is right.
    const near = spec.includes("infini") ? 0.1 : Infinity;
    expect(difference(await read(open("fast", 64)), expected)).toBeLessThan(near);
  });
});

it.each(SPECS)("%s goes on after fork, truncate, save and restore", async (spec) => {
  const { open, models, method } = openers(SHAPES["heads of 8"], spec);
  const [judge, session] = [open("judge", 64), open("exact", 64)];
  for (const one of [judge, session]) await one.prefill(text.slice(0, 100)); // the last layer computes one row alone
  await session.fork().prefill(tinyIds(60, 9)); // the session does not see what its fork reads
  const restored = models.exact.restoreSession(await session.save(), { method, chunk: 64, capacity: 256 });
  const expected = await judge.prefill(text.slice(100, 110), { logitRows: 10 });
  for (const one of [session, restored])
    expect(difference(await one.prefill(text.slice(100, 110), { logitRows: 10 }), expected)).toBeLessThan(1e-4);
  // No memory holds token 96 yet; behind 128 two kinds of segments have ended.
  for (const one of [judge, session]) {
    one.truncate(98);
    await one.prefill(text.slice(98, 130));
  }
  const memory = spec.includes("infini");
  const truncated = [judge, session].map((one) => messageOf(() => one.truncate(60)));
  for (const message of truncated) expect(message).toMatch(memory ? /compressive memory/ : /^$/);
  const next = text.slice(session.length, 140);
  const logits = await judge.prefill(next, { logitRows: next.length });
  expect(difference(await session.prefill(next, { logitRows: next.length }), logits)).toBeLessThan(1e-4);
  expect(session.bytes).toBe(Object.values(session.bytesByPart).reduce((sum, bytes) => sum + bytes, 0));
  session.dispose();
  expect(session.bytesByPart).toEqual({ ring: 0, far: 0, index: 0, memory: 0 });
});

/** The message of what it throws, "" where it throws nothing. */
function messageOf(act: () => void): string {
  try {
    act();
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}
