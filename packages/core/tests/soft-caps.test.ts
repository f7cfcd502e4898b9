import { describe, expect, it } from "vitest";
import { compose } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { createReference } from "@longctx/core/reference";
import { largestDifference, readText, tinyConfig, tinyIds, tinyWeights } from "./tiny-model.ts";

const ids = tinyIds(9);
const weights = tinyWeights(tinyConfig());

describe("a soft cap of logits", () => {
  const cap = 1.5;
  const read = (logitSoftCap: number | undefined, chunk: number, create: typeof createReference = createReference) =>
    readText(create(tinyConfig({ logitSoftCap }), weights), compose(), ids, { chunk });

  it("bends the logits as it is defined", async () => {
    const plain = await read(undefined, 9);
    const expected = plain.map((logit) => cap * Math.tanh(logit / cap));
    expect(largestDifference(plain, expected)).toBeGreaterThan(0.3);
    expect(largestDifference(await read(cap, 9), expected)).toBeLessThan(1e-6);
  });

  it.each([1, 9])("is that of the reference on the cpu, in chunks of %i", async (chunk) => {
    expect(largestDifference(await read(cap, chunk, createCpu), await read(cap, chunk))).toBeLessThan(1e-4);
  });
});

it("a soft cap of scores is refused by the cpu, with what computes it", () => {
  const config = tinyConfig({ attentionSoftCap: 50 });
  expect(() => createCpu(config, weights)).toThrow(/attentionSoftCap 50.*webgpu or reference/);
});
