import { afterAll, describe } from "vitest";
import { expectOtherMethods } from "../definitions/expect-other-methods.ts";
import { randomModel } from "../definitions/judged-models.ts";
import { gpu, modelOnGpu, TOLERANCE } from "./model.ts";

afterAll(() => gpu?.destroy());

describe.skipIf(gpu === null)("on webgpu a fork under other methods is its definition", () => {
  expectOtherMethods(randomModel(), { tolerance: TOLERANCE, open: modelOnGpu });
});
