import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findSmolLM2, load, type LanguageModel } from "../../src/index.ts";
import { chatCase, largestDifference, logitCases } from "../smollm2-data.ts";
import { gpu } from "./model.ts";

const path = findSmolLM2();
/** Minutes on an adapter that computes on the processor: only for who asks. */
const asked = process.env.LONGCTX_SMOLLM2 !== undefined || (gpu !== null && !gpu.capabilities.software);
if (path === null || !asked)
  console.warn("Skipped: SmolLM2 on webgpu; set LONGCTX_SMOLLM2 to its .gguf file (minutes on a software adapter).");
const skipped = gpu === null || path === null || !asked;

/** Of logits of 10 to 30; float32 on another order of summation. */
const TOLERANCE = 2e-2;

afterAll(() => gpu?.destroy());

describe.skipIf(skipped)("SmolLM2-135M-Instruct on webgpu", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await load(path!, { device: "webgpu" });
  }, 300_000);
  afterAll(() => model?.dispose());

  it("computes the logits that transformers computes", { timeout: 600_000 }, async () => {
    const [golden] = logitCases().sort((a, b) => a.ids.length - b.ids.length);
    const session = model.session({ capacity: golden.ids.length });
    const logits = await session.prefill(golden.ids, { logitRows: golden.ids.length });
    expect(largestDifference(logits, golden)).toBeLessThan(TOLERANCE);
    session.dispose();
  });

  it("answers a chat with the same words", { timeout: 600_000 }, async () => {
    const { prompt, ids, text } = chatCase();
    const session = model.session({ capacity: 256 });
    const encoded = model.tokenizer!.encode(prompt, { special: false });
    const generation = session.generate({ prompt: encoded, maxNew: ids.length });
    expect(await generation.complete()).toBe(text);
    expect(generation.ids).toEqual(ids);
    session.dispose();
  });
});
