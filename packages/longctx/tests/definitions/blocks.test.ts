import { describe } from "vitest";
import { DEVICES } from "../devices.ts";
import { expectBlocks, expectBlocksParameters, expectBlocksText } from "./expect-blocks.ts";
import { goldenModel, randomModel } from "./judged-models.ts";
import { placeOf } from "./sequences.ts";

const [llama, odd] = await Promise.all(["llama", "llama-odd-sizes"].map(goldenModel));
const random = randomModel();

describe.each(DEVICES)("%s", (device) => {
  const place = placeOf(device);

  describe("golden", () => {
    expectBlocks(llama, place, { sequences: ["constant"] });
  });
  describe("3 key heads of 6", () => {
    expectBlocks(random, place, { sequences: ["constant", "ordered"] });
    expectBlocksParameters(random, place);
  });
  describe("3 key heads of 6, of sizes that fit no kernel", () => {
    expectBlocksText(odd, place);
  });
});
