import { describe, expect, it } from "vitest";
import { constantPosition, LanguageModel, within, type Method } from "@longctx/core";
import { createReference } from "@longctx/core/reference";
import { largestDifference, tinyConfig, tinyIds, tinyWeights } from "../../core/tests/tiny-model.ts";
import { blocks } from "../src/index.ts";

const config = tinyConfig({ maxPositions: 512, headSize: 8, queryHeads: 6, keyHeads: 3, hiddenSize: 48 });
const model = new LanguageModel({
  backend: createReference(config, tinyWeights(config)),
  tokenizer: null,
  chatTemplate: null,
});
const ids = tinyIds(100);
const read = (method: Method | readonly Method[], chunk = 100) =>
  model.session({ method, chunk }).prefill(ids, { logitRows: ids.length });
const small = { size: 8, local: 16, sinks: 2, exec: 16 };

describe("blocks", () => {
  it.each(["constant", "ordered"] as const)(
    "%s: does not depend on the chunk, and is not the plain model",
    async (positions) => {
      const method = blocks({ ...small, top: 2, positions });
      const whole = await read(method);
      for (const chunk of [1, 7, 64]) expect(largestDifference(await read(method, chunk), whole)).toBe(0);
      expect(largestDifference(whole, await read([]))).toBeGreaterThan(1e-3);
    },
  );

  it("ordered with room for all blocks is full attention", async () => {
    const method = blocks({ ...small, top: 99, positions: "ordered" });
    expect(largestDifference(await read(method), await read([]))).toBeLessThan(1e-6);
  });

  it("without blocks is a Λ-mask whose sinks and remainder are at the distance local − 1", async () => {
    // The remainder is written down once more: per group, what lies before the first candidate that is not complete.
    const mask: Method = {
      spec: "mask",
      axes: ["visibility", "distance"],
      groupSize: 16,
      segments: ([segment], { first }) => {
        const candidates = Math.max(0, Math.floor((first - 16 + 1 - 2) / 8));
        const far = { ...segment, queryPosition: constantPosition(15), keyPosition: constantPosition(0) };
        const left = within(far, { from: 16, to: Infinity })!;
        const near = within(segment, { from: 0, to: 16 })!;
        return candidates === 0
          ? [near, left]
          : [near, { ...left, tokens: { from: 0, to: 2 } }, { ...left, tokens: { from: 2 + 8 * candidates, to: 200 } }];
      },
    };
    expect(largestDifference(await read(blocks({ ...small, top: 0 })), await read(mask))).toBe(0);
  });

  it("reads a group at once and generated tokens one by one", async () => {
    const method = blocks({ ...small, top: 2 });
    const session = model.session({ method, chunk: 5 });
    const rows: number[] = [];
    for await (const { first } of session.forward(ids.slice(0, 40), { logitRows: 40 })) rows.push(first);
    expect(rows).toEqual([0, 16, 32]);
    await session.prefill(ids.slice(40, 41));
    const { segments } = session.plan({ first: 41, count: 1, layer: 0 });
    const choice = segments
      .map(({ tokens }) => ("choice" in tokens ? tokens.choice : null))
      .find((one) => one !== null);
    expect(choice).toMatchObject({ size: 8, from: 2, candidates: 3, count: 2, asking: { from: 41, to: 42 } });
  });

  it("retrieves nothing in layers that have a sliding window of their own", () => {
    const windowed = { config: { ...config, slidingWindows: [null, 24] }, trainedWindow: 32 };
    const plan = (layer: number) =>
      blocks({ ...small, top: 2 }).segments!(model.session().plan({ first: 64, count: 16, layer }).segments, {
        ...windowed,
        first: 64,
        count: 16,
        length: 80,
        promptLength: 80,
        layer,
      });
    expect([plan(0).length, plan(1).length]).toEqual([4, 1]);
  });

  it("says which tokens are near where a group chooses for all heads", () => {
    const layout = (changes: object) => model.session({ method: blocks({ ...small, top: 2, ...changes }) }).layout;
    expect(layout({}).near).toEqual({ first: 2, last: 24, block: 8, blocks: 2, chunk: 16 });
    expect(layout({ share: "none" }).near).toBeUndefined();
    expect(layout({ query: "token" }).near).toBeUndefined();
    const near = blocks({ ...small, top: 2 }).near!;
    const windowed = { ...config, slidingWindows: [null, 24] };
    expect(near({ config: windowed, trainedWindow: 32, layer: 1, chunk: 16 })).toEqual({ first: 0, last: 24, block: 8, blocks: 0 }); // prettier-ignore
  });
});
