import { afterAll, describe, expect, it } from "vitest";
import { difference } from "../devices.ts";
import { goldenNames, readGolden } from "../read-golden.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

const CAPACITY = 256;

afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null)("webgpu computes what transformers computes", () => {
  it.each(goldenNames())("%s", async (name) => {
    const { config, weights, cases, prompt, greedy } = await readGolden(name);
    const model = await modelOnGpu(config, weights);
    const [short, long] = cases;
    for (const [{ ids, logits }, chunk] of [
      [short, 48],
      [short, 1],
      [long, 160],
      [long, 7],
      [long, 16],
      [long, 64],
    ] as const) {
      const session = model.session({ capacity: CAPACITY, chunk });
      const computed = await session.prefill(ids, { logitRows: ids.length });
      expect(difference(computed, logits), `${ids.length} tokens in chunks of ${chunk}`).toBeLessThan(TOLERANCE);
      session.dispose();
    }
    const session = model.session({ capacity: CAPACITY });
    const generation = session.generate({ prompt, maxNew: greedy.length, stopTokens: [] });
    await generation.complete();
    expect(generation.ids).toEqual(greedy);
    await model.dispose();
    expect(gpu!.ledger.of("weights")).toBe(0);
  });
});
