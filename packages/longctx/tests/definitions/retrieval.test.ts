import { describe } from "vitest";
import { DEVICES } from "../devices.ts";
import { expectCases, modelsOf } from "./expect-retrieval.ts";
import { goldenModel, randomModel } from "./judged-models.ts";
import {
  blockCases,
  knnCases,
  oracleBlockCases,
  oracleCases,
  randomBlockCases,
  type Factors,
} from "./retrieval-cases.ts";
import { placeOf } from "./sequences.ts";
import { WAYS, type WayName } from "./ways.ts";

const MODELS = [
  await goldenModel("llama"),
  randomModel("3 key heads of 6", { vocabSize: 256 }),
  randomModel("3 key heads of 6, 6 of 10 channels rotate, of sizes that fit no kernel", {
    vocabSize: 251,
    hiddenSize: 30,
    headSize: 10,
    rope: { type: "default", base: 100, rotarySize: 6 },
  }),
];

/** All but one that is in others. */
const WAY_NAMES = (Object.keys(WAYS) as WayName[]).filter((way) => way !== "after a fork and a save");
const MANY = {
  model: [...MODELS.keys()],
  composed: ["", "yarn:factor=4+", "ntk:factor=4+logn+"],
  watched: [false, true],
  way: WAY_NAMES,
};
/** For controls, which share all but the choice with what they control. */
const FEW = {
  ...MANY,
  model: [0, 1],
  composed: ["", "yarn:factor=4+"],
  way: ["160 tokens, in chunks", "a prompt, then token by token", "generating", "after a fork and a save"],
} satisfies Factors;

describe.each(DEVICES)("%s", (device) => {
  const at = modelsOf(placeOf(device), MODELS);
  describe("blocks", () => {
    expectCases(blockCases(MANY), at);
  });
  describe("knn", () => {
    expectCases(knnCases(MANY), at);
  });
  describe("oracle", () => {
    expectCases(oracleCases(FEW), at);
  });
  describe("oracle-block", () => {
    expectCases(oracleBlockCases(FEW), at);
  });
  describe("random-blocks", () => {
    expectCases(randomBlockCases(FEW), at);
  });
});
