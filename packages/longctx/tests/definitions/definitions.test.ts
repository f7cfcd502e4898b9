import { describe, expect, it } from "vitest";
import { methods } from "../../src/methods.ts";
import { compositions, single } from "./cases.ts";
import { define } from "./definitions.ts";
import { denseLogits } from "./dense-llama.ts";
import { difference, judgeOf, textOf } from "./judge.ts";
import { expectDefinitions } from "./expect-definitions.ts";

it.each(["llama", "mistral-swa", "llama-odd-sizes", "qwen3"])(
  "the judge computes what transformers computes: %s",
  async (name) => {
    const { llama, texts } = await judgeOf(name);
    for (const { ids, logits } of texts)
      expect(difference(denseLogits(llama, ids, define([], textOf(llama, ids.length))), logits)).toBeLessThan(5e-5);
  },
);

/** Methods that no formula of pairs says: `infini.test.ts`, `blocks.test.ts` and `retrieval.test.ts` judge them. */
const APART = ["infini", "blocks", "knn", "oracle", "oracle-block", "random-blocks"];

it("judges every method there is", () => {
  const judged = new Set([
    ...APART,
    ...[...single, ...compositions].flatMap(({ spec }) => spec.match(/(?<=^|\+)[a-z0-9-]+/g)),
  ]);
  expect(methods.rows.map(({ name }) => name).filter((name) => !judged.has(name))).toEqual([]);
});

describe("a method is its definition", () => {
  expectDefinitions(single);
});
