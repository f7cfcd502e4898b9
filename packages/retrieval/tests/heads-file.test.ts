import { describe, expect, it } from "vitest";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { HEADS_FORMAT, headsFor, readHeads, shippedHeads } from "../src/index.ts";

const config = tinyConfig();
const { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize } = config;
const shape = { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize };
const file = {
  format: HEADS_FORMAT,
  model: { name: "random", ...shape },
  best: [[1, 3]],
  heads: [{ layer: 1, head: 3 }],
};

describe("a heads file", () => {
  it("is read with all that it says, and gives its best heads for its model", () => {
    const read = readHeads(JSON.parse(JSON.stringify(file)), "h.json");
    expect(read).toEqual(file);
    expect(headsFor(read, config)).toEqual([[1, 3]]);
  });

  it("is refused for a model of other sizes", () => {
    const read = readHeads(file, "h.json");
    expect(() => headsFor(read, tinyConfig({ layerCount: 4 }))).toThrow(
      expect.objectContaining({ code: "argument", message: expect.stringMatching(/measured on random, whose layerCount is 2, but the model's is 4/) }), // prettier-ignore
    );
  });

  it("is shipped for SmolLM2, whose heads are those of the measurement, and for the embedded model", () => {
    const smollm2 = tinyConfig({ vocabSize: 49152, hiddenSize: 576, layerCount: 30, queryHeads: 9, keyHeads: 3, headSize: 64 }); // prettier-ignore
    expect(shippedHeads(smollm2)!.best).toEqual([[14, 3], [15, 6]]); // prettier-ignore
    const tiny = tinyConfig({ vocabSize: 285, hiddenSize: 128, layerCount: 4, keyHeads: 4, headSize: 32 });
    expect(shippedHeads(tiny)!.model.name).toBe("tiny");
    expect(shippedHeads(config)).toBeNull();
  });

  it.each<[string, unknown, RegExp]>([
    ["no record", null, /^h\.json is not a heads file/],
    [
      "another format",
      { ...file, format: "longctx heads 9" },
      /has the format "longctx heads 9" in place of "longctx heads 1"/,
    ],
    ["no format", {}, /has the format none/],
    ["no model", { ...file, model: undefined }, /does not describe its model/],
    [
      "a model without a size",
      { ...file, model: { ...file.model, keyHeads: undefined } },
      /does not describe its model/,
    ],
    ["no best heads", { ...file, best: [] }, /best heads that are not pairs \[layer, head\] below \[2, 4\], but \[\]/],
    ["a head that the model does not have", { ...file, best: [[1, 4]] }, /but \[\[1,4\]\]/],
    ["a layer that the model does not have", { ...file, best: [[2, 0]] }, /but \[\[2,0\]\]/],
    ["heads that are no pairs", { ...file, best: [3] }, /but \[3\]/],
    ["no list of heads", { ...file, heads: "all" }, /has no list of heads/],
  ])("with %s is refused by name", (_, content, message) => {
    expect(() => readHeads(content, "h.json")).toThrow(
      expect.objectContaining({ code: "file", message: expect.stringMatching(message) }),
    );
  });
});
