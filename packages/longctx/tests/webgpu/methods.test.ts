import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import { parseMethod } from "../../src/methods.ts";
import { compositions, single, TRAINED_WINDOW, type Case } from "../definitions/cases.ts";
import { difference, judgeOf, read } from "../definitions/judge.ts";
import { readGolden } from "../read-golden.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

const judge = await judgeOf("llama");

describe.skipIf(gpu === null)("webgpu: a method is its definition", () => {
  let model: LanguageModel;
  beforeAll(async () => {
    const { config, weights } = await readGolden("llama");
    model = await modelOnGpu(config, weights, TRAINED_WINDOW);
  });

  /** `together` tokens by one call, in chunks, and the others one by one. */
  const expectRead = async (method: Case, length: number, together: number, chunk: number) => {
    const prompt = together || length;
    const computed = await read(model, parseMethod(method.spec), judge.ids(length), { chunk, together, prompt });
    expect(difference(computed, judge.logits(method, length, prompt))).toBeLessThan(TOLERANCE);
  };

  it.each([...single, ...compositions])("in chunks: $spec", async (method) => {
    await expectRead(method, 48, 48, 48);
    await expectRead(method, 48, 48, 16);
    await expectRead(method, 160, 160, 16);
  });

  it.each(single.filter(({ bidirectional }) => !bidirectional))("token by token: $spec", async (method) => {
    await expectRead(method, 48, 0, 16);
    await expectRead(method, 160, 0, 16);
  });

  it.each([...single, ...compositions])("tokens generated after a prompt: $spec", async (method) => {
    await expectRead(method, 48, 29, 16);
  });
});
