import { afterAll, describe } from "vitest";
import { expectCases, modelsOf } from "../definitions/expect-retrieval.ts";
import { goldenModel } from "../definitions/judged-models.ts";
import {
  blockCases,
  knnCases,
  oracleBlockCases,
  oracleCases,
  randomBlockCases,
  type Factors,
} from "../definitions/retrieval-cases.ts";
import type { Place } from "../definitions/sequences.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

/** Sizes that fit the kernels, and sizes that do not. */
const MODELS = [await goldenModel("llama"), await goldenModel("llama-odd-sizes")];

/** A software adapter is slow, so a device is only read in those ways that are paths of their own there. */
const FEW = {
  model: [0, 1],
  composed: ["", "yarn:factor=4+"],
  watched: [false, true],
  way: ["160 tokens, in chunks", "a prompt, then token by token", "after a fork and a save"],
} satisfies Factors;
const CONTROLS = { ...FEW, model: [0], composed: [""], way: FEW.way.slice(1, 2) } satisfies Factors;

describe.skipIf(gpu === null)("webgpu: retrieval is its definition", () => {
  const place: Place = { tolerance: TOLERANCE, open: modelOnGpu };
  const at = modelsOf(place, MODELS);
  describe("blocks", () => {
    expectCases(blockCases(FEW, 3), at);
  });
  describe("knn", () => {
    expectCases(knnCases(FEW, 3), at);
  });
  describe("controls", () => {
    const all = [oracleCases, oracleBlockCases, randomBlockCases].flatMap((casesOf) => casesOf(CONTROLS).slice(0, 4));
    expectCases(all, at);
  });
});
