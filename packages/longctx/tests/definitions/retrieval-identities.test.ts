import { describe } from "vitest";
import { DEVICES } from "../devices.ts";
import { withGates } from "./expect-retrieval.ts";
import { expectIdentities, expectParameters } from "./expect-retrieval-identities.ts";
import { goldenModel, randomModel } from "./judged-models.ts";
import { placeOf } from "./sequences.ts";

const llama = await goldenModel("llama");
const random = randomModel("3 key heads of 6", { vocabSize: 256 });

describe.each(DEVICES)("%s", (device) => {
  const place = placeOf(device);

  describe.each([llama, random])("$name", (judged) => {
    expectIdentities(judged, place);
  });

  expectParameters(async (layers) => place.open(random.config, withGates(random.weights, random.llama, layers)));
});
