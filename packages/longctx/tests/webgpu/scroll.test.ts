import { afterAll, describe, expect, it } from "vitest";
import { loadCheckpoint, open, scroll, LanguageModel } from "longctx";
import { createWebGpu } from "@longctx/core/webgpu";
import { needleTask } from "../../../tasks/src/index.ts";
import { gpu } from "./model.ts";

afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null)("scroll on webgpu", () => {
  it("carries and answers what it does on the cpu", async () => {
    const checkpoint = await open("tiny");
    const { config, weights, tokenizer } = checkpoint;
    const backend = await createWebGpu(config, weights, { device: gpu! });
    const models = [
      await loadCheckpoint(checkpoint, { device: "cpu" }),
      new LanguageModel({ backend, tokenizer, chatTemplate: null }),
    ];
    const { ids, passage, refs } = needleTask().bind(tokenizer!).prompt({ length: 400, depth: 30, trial: 0, seed: 1 });
    const parts = {
      before: ids.slice(0, passage.start),
      text: ids.slice(passage.start, passage.end),
      question: ids.slice(passage.end),
    };
    const results = [];
    for (const model of models)
      results.push(await scroll(model, parts, { chunk: 90, budget: 30, answer: 15, maxNew: 1 }));
    const [cpu, webgpu] = results;
    expect(webgpu.answer.trim()).toBe(refs[0]);
    expect(webgpu.ids).toEqual(cpu.ids);
    webgpu.chunks.forEach(({ carried, ...chunk }, i) => {
      expect(chunk.dropped).toBeCloseTo(cpu.chunks[i].dropped, 3);
      expect(carried.map(({ from, to }) => [from, to])).toEqual(
        cpu.chunks[i].carried.map(({ from, to }) => [from, to]),
      );
      carried.forEach(({ score }, j) => expect(score).toBeCloseTo(cpu.chunks[i].carried[j].score, 3));
    });
    for (const model of models) await model.dispose();
  });
});
