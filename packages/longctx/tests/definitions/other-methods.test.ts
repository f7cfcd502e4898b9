import { describe } from "vitest";
import { DEVICES } from "../devices.ts";
import { expectOtherMethods } from "./expect-other-methods.ts";
import { goldenModel, randomModel } from "./judged-models.ts";
import { placeOf } from "./sequences.ts";

const models = [await goldenModel("llama"), randomModel()];

describe.each(DEVICES)("on %s a fork under other methods is its definition", (device) => {
  describe.each(models)("$name", (judged) => {
    expectOtherMethods(judged, placeOf(device));
  });
});
