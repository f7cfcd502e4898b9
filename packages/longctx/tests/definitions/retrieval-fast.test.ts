import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LanguageModel } from "@longctx/core";
import { createCpu } from "@longctx/core/cpu";
import { methods } from "../../src/methods.ts";
import { accepting, Report, TIE, type Witness } from "./choosing.ts";
import { covering } from "./covering.ts";
import * as is from "./definitions.ts";
import { blockRule, type Blocks } from "./dense-blocks.ts";
import { knnRule, type Knn } from "./dense-knn.ts";
import { DenseSequence, type Rule } from "./dense-sequence.ts";
import { difference, textOf } from "./judge.ts";
import { distinctText, randomModel } from "./judged-models.ts";
import { blocksSpec, knnSpec } from "./retrieval-cases.ts";
import { readCalls, start } from "./sequences.ts";
import { watch } from "./watch.ts";

/** How far logits of a few units may be from the definition where keys and values have 16 bits or less. */
const TOLERANCE = 0.05;

const judged = randomModel("3 key heads of 6", { vocabSize: 256 });
const { llama, config, weights } = judged;
const plain = is.define([], textOf(llama, 160, config.trainedWindow));
const ids = distinctText(judged, 160, 1);
const calls = [136, ...Array.from({ length: 24 }, () => 1)];

/** Salience is left out: masses of a block's tokens are often nearer to each other than what 16 bits keep apart. */
const BLOCKS = covering({
  representative: ["mean", "bounds"],
  share: ["heads", "group", "none"],
  query: ["chunk", "token"],
  positions: ["constant", "ordered"],
});
const SIZES = { size: 8, top: 2, local: 16, sinks: 2, exec: 16, repr: 2 };
const KNN: Knn = {
  layers: "all",
  k: 3,
  window: 16,
  sinks: 2,
  merge: "joint",
  keys: "raw",
  positions: "constant",
  gate: () => 0.4,
  scale: () => 2.5,
};

describe("cpu, fast", () => {
  let model: LanguageModel;
  beforeAll(() => {
    const backend = createCpu(config, weights, { threads: 1, precision: "fast" });
    model = new LanguageModel({ backend, weights, tokenizer: null, chatTemplate: null });
  });
  afterAll(() => model.dispose());

  async function expectNear(spec: string, rule: (witness: Witness) => Rule): Promise<void> {
    const report = new Report();
    const session = start(model, [...methods.parse(spec), watch(report, llama)], 64);
    const computed = await readCalls(session, ids, calls);
    const definition = new DenseSequence(llama, rule(accepting(report, TIE["16 bits"])));
    expect(difference(computed, definition.read(ids, calls))).toBeLessThan(TOLERANCE);
  }

  it.each(BLOCKS)("blocks: %o", async (row) => {
    const blocks: Blocks = { ...SIZES, ...row };
    await expectNear(blocksSpec(blocks), (witness) => blockRule(llama, blocks, plain, witness));
  });

  it.each<Partial<Knn>>([
    { positions: "none" },
    { positions: "constant" },
    { positions: "true" },
    { merge: "gate" },
    { merge: "gate", keys: "normalized" },
  ])("knn: %o", async (changes) => {
    const knn = { ...KNN, ...changes };
    await expectNear(knnSpec(knn, "given"), (witness) => knnRule(llama, knn, plain, witness));
  });
});
