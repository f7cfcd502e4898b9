import { afterAll, describe, expect, it } from "vitest";
import { blocks, HEADS_FORMAT } from "../../src/index.ts";
import { DEVICES, modelOf, TOLERANCE } from "../devices.ts";
import * as is from "./definitions.ts";
import { denseBlocks, type Blocks } from "./dense-blocks.ts";
import { difference, textOf } from "./judge.ts";
import { distinctText, randomModel } from "./judged-models.ts";

/** `blocks` whose heads file names some heads that choose for all. */

const judged = randomModel("3 key heads of 6", { vocabSize: 256 });
const { config, weights, llama } = judged;
const models = DEVICES.map((device) => ({ device, model: modelOf(device, config, weights) }));
const [{ model }] = models;
afterAll(() => Promise.all(models.map((one) => one.model.dispose())));
const ids = distinctText(judged, 120, 3);
const attention = is.define([], textOf(llama, 120, config.trainedWindow));

const { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize } = config;
const shape = { modelType, vocabSize, hiddenSize, layerCount, queryHeads, keyHeads, headSize };
const fileOf = (best: readonly (readonly [number, number])[], over: object = {}) => ({
  path: "heads.json",
  content: { format: HEADS_FORMAT, model: { name: "random", ...shape, ...over }, best, heads: [] },
});

const SIZES = { size: 8, top: 2, local: 16, sinks: 2, exec: 16, repr: 2 };
const FORMS = [
  { query: "chunk", positions: "constant", representative: "mean" },
  { query: "chunk", positions: "ordered", representative: "salient" },
  { query: "token", positions: "ordered", representative: "bounds" },
  { query: "token", positions: "constant", representative: "mean" },
] as const;

/** The logits of a device, read in chunks and at the end token by token. */
async function read(method: ReturnType<typeof blocks>, on = model): Promise<Float32Array> {
  const session = on.session({ method, chunk: 48 });
  const parts = [await session.prefill(ids.slice(0, 112), { logitRows: 112 })];
  for (const id of ids.slice(112)) parts.push(await session.prefill([id]));
  session.dispose();
  return Float32Array.from(parts.flatMap((part) => [...part]));
}

describe.each(FORMS)("$query, $positions, $representative", (form) => {
  const defined = (askers?: Blocks["askers"]) =>
    denseBlocks(llama, { ...SIZES, ...form, share: "heads", askers }, attention).read(
      ids,
      [112, 1, 1, 1, 1, 1, 1, 1, 1],
    );

  it("named heads choose in their layers, all heads elsewhere", async () => {
    const method = blocks({ ...SIZES, ...form, heads: fileOf([[1, 4], [1, 0]]) }); // prettier-ignore
    const expected = defined({ 1: [0, 4] });
    for (const { device, model: on } of models)
      expect(difference(await read(method, on), expected)).toBeLessThan(TOLERANCE[device]);
    expect(difference(await read(method), defined())).toBeGreaterThan(1e-3);
    expect(difference(await read(method), defined({ 1: [0, 1, 4] }))).toBeGreaterThan(1e-3);
  });

  it("all heads named are none named", async () => {
    const all = Array.from({ length: layerCount * queryHeads }, (_, i) => [i % layerCount, Math.floor(i / layerCount)] as const); // prettier-ignore
    expect(difference(await read(blocks({ ...SIZES, ...form, heads: fileOf(all) })), await read(blocks({ ...SIZES, ...form })))).toBe(0); // prettier-ignore
  });
});

describe("a heads file of blocks", () => {
  it("is refused beside choices of single heads, for another model, and where it is none", () => {
    const given = { ...SIZES, heads: fileOf([[1, 4]]) };
    expect(() => blocks({ ...given, share: "none" })).toThrow(/heads names the heads that ask for all of a layer, which share=none/); // prettier-ignore
    expect(() => blocks({ ...SIZES, heads: { path: "x.json", content: {} } })).toThrow(/^x.json has the format none/);
    expect(() => model.session({ method: blocks({ ...SIZES, heads: fileOf([[1, 4]], { hiddenSize: 48, headSize: 16 }) }) })).toThrow(/measured on random, whose/); // prettier-ignore
    expect(blocks(given).spec).toContain("heads=heads.json");
  });
});
