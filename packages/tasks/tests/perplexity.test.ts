import { describe, expect, it } from "vitest";
import { LanguageModel } from "@longctx/core";
import { tinyBackend, tinyIds } from "../../core/tests/tiny-model.ts";
import { measurePerplexity, novelText, NOVELS, type Novel } from "../src/index.ts";

const model = new LanguageModel({ backend: tinyBackend({ maxPositions: 64 }), tokenizer: null, chatTemplate: null });
const ids = tinyIds(40);

describe("measurePerplexity", () => {
  it("is the mean of −ln p over the predictions of a block, and of all", async () => {
    const logits = await model.session().prefill(ids, { logitRows: 40 });
    const losses = ids.slice(1).map((id, row) => {
      const scores = logits.subarray(32 * row, 32 * (row + 1));
      return Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0)) - scores[id];
    });
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const { blocks, whole } = await measurePerplexity(model.session({ chunk: 7 }), ids, { block: 16 });
    expect(blocks.map(({ from, to, predictions }) => [from, to, predictions])).toEqual([
      [1, 16, 16],
      [17, 32, 16],
      [33, 39, 7],
    ]);
    blocks.forEach(({ nats }, k) => expect(nats).toBeCloseTo(mean(losses.slice(16 * k, 16 * (k + 1))), 5));
    expect(whole.nats).toBeCloseTo(mean(losses), 5);
    expect(whole.perplexity).toBeCloseTo(Math.exp(mean(losses)), 3);
  });

  it("tells how far it is, and stops when asked", async () => {
    const seen: number[] = [];
    const controller = new AbortController();
    const reading = measurePerplexity(model.session({ chunk: 10 }), ids, {
      signal: controller.signal,
      onProgress: (done) => {
        seen.push(done);
        if (done === 20) controller.abort();
      },
    });
    await expect(reading).rejects.toThrow("as asked");
    expect(seen).toEqual([10, 20]);
  });

  it("refuses a session in use, too short a text and no block", async () => {
    const used = model.session();
    await used.prefill([1, 2]);
    await expect(measurePerplexity(used, ids)).rejects.toThrow("has read 2 tokens before");
    await expect(measurePerplexity(model.session(), [1])).rejects.toThrow("at least 2 tokens");
    await expect(measurePerplexity(model.session(), ids, { block: 0 })).rejects.toThrow("block is 0");
  });
});

describe("novelText", () => {
  it("is a whole novel", () => {
    for (const novel of NOVELS) expect(novelText(novel).length).toBeGreaterThan(400_000);
    expect(novelText("persuasion")).toMatch(/^PERSUASION/i);
  });

  it("refuses another name", () => {
    expect(() => novelText("emma" as Novel)).toThrow('no novel "emma"; there is northangerabbey');
  });
});
