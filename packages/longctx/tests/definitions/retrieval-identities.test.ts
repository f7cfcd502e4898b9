import { describe } from "vitest";
import { DEVICES } from "../devices.ts";
import { withGates } from "./expect-retrieval.ts";
import { expectIdentities, expectOwnWindow, expectParameters } from "./expect-retrieval-identities.ts";
import { goldenModel, randomModel } from "./judged-models.ts";
import { placeOf } from "./sequences.ts";

const llama = await goldenModel("llama");
const random = randomModel("3 key heads of 6", { vocabSize: 256 });
const windowed = randomModel("a sliding window in layer 0", { vocabSize: 256, slidingWindows: [20, null] });

describe.each(DEVICES)("%s", (device) => {
  const place = placeOf(device);

  describe.each([llama, random])("$name", (judged) => {
    expectIdentities(judged, place, judged === random);
  });

  expectOwnWindow(windowed, place, 0, 20);
  expectParameters(async (layers) => place.open(random.config, withGates(random.weights, random.llama, layers)));
});
