import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findSmolLM2, load, parseMethod, type LanguageModel } from "longctx";
import {
  chatCase,
  findsKey,
  largestDifference,
  logitCases,
  PASSKEY_ANSWER_TOKENS,
  passkeyPrompt,
  passkeyRecords,
} from "./smollm2-data.ts";

const path = findSmolLM2();
if (path === null)
  console.warn(
    "Skipped: SmolLM2 is not on this machine; run `longctx fetch smollm2` or set LONGCTX_SMOLLM2 to its .gguf file.",
  );

/** Of logits of 10 to 30; float32 on another order of summation. */
const TOLERANCE = 2e-2;
const FILLER_UNIT_TOKENS = 23;
/** A dozen prompts that take seconds; `pnpm -C benchmarks bench passkey-outcomes` reads all of them. */
const SHORT = passkeyRecords().filter(({ length, trial, depth }) =>
  length === 512 ? trial === 0 || depth === 0.5 : length === 1024 && trial === 0 && depth % 0.5 === 0,
);

describe.skipIf(path === null)("SmolLM2-135M-Instruct on the cpu", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await load(path!, { device: "cpu" });
  }, 120_000);
  afterAll(() => model?.dispose());

  it.each(logitCases())("computes the logits of $name as transformers does", async (golden) => {
    expect(model.tokenizer!.encode(golden.text)).toEqual(golden.ids);
    const session = model.session({ capacity: golden.ids.length });
    const logits = await session.prefill(golden.ids, { logitRows: golden.ids.length });
    expect(logits.length).toBe(golden.ids.length * model.config.vocabSize);
    expect(largestDifference(logits, golden)).toBeLessThan(TOLERANCE);
    session.dispose();
  });

  it("answers a chat with the same words", async () => {
    const { messages, prompt, ids, text } = chatCase();
    expect(model.chatTemplate!(messages, { addGenerationPrompt: true })).toBe(prompt);
    const session = model.session({ capacity: 256 });
    const generation = session.generate({
      prompt: model.tokenizer!.encode(prompt, { special: false }),
      maxNew: ids.length,
    });
    expect(await generation.complete()).toBe(text);
    expect(generation.ids).toEqual(ids);
    session.dispose();
  });

  it.each(SHORT)("answers the passkey prompt of $length tokens, depth $depth, key $key", async (record) => {
    const prompt = model.tokenizer!.encode(passkeyPrompt(record));
    expect(Math.abs(prompt.length - record.length)).toBeLessThan(FILLER_UNIT_TOKENS);
    for (const [spec, found] of Object.entries(record.found)) {
      const session = model.session({ method: parseMethod(spec), capacity: prompt.length + PASSKEY_ANSWER_TOKENS });
      const answer = await session.generate({ prompt, maxNew: PASSKEY_ANSWER_TOKENS }).complete();
      expect({ answer, found: findsKey(answer, record) }).toEqual({ answer, found });
      session.dispose();
    }
  });
});
