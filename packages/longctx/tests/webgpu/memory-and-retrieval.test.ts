import { afterAll, describe } from "vitest";
import { expectBlocks, expectBlocksParameters } from "../definitions/expect-blocks.ts";
import { expectInfini } from "../definitions/expect-infini.ts";
import { goldenModel, randomModel } from "../definitions/judged-models.ts";
import type { Place } from "../definitions/sequences.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

const place: Place = { tolerance: TOLERANCE, open: modelOnGpu };
const llama = await goldenModel("llama");
const random = randomModel();

describe.skipIf(gpu === null)("webgpu: memory and retrieval are their definitions", () => {
  describe("infini", () => {
    describe("golden", () => {
      expectInfini(llama, place, { sequences: ["delta"] });
    });
    describe("3 key heads of 6", () => {
      expectInfini(random, place, { sequences: ["linear"] });
    });
  });

  describe("blocks", () => {
    describe("golden", () => {
      expectBlocks(llama, place, { sequences: ["constant"] });
    });
    describe("3 key heads of 6", () => {
      expectBlocks(random, place, { sequences: ["ordered"] });
      expectBlocksParameters(random, place);
    });
  });
});
