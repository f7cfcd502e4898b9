import { afterAll, describe, expect, it } from "vitest";
import { createReference } from "@longctx/core/reference";
import { LanguageModel } from "@longctx/core";
import { blocks, HEADS_FORMAT } from "../../src/index.ts";
import { DEVICES } from "../devices.ts";
import * as is from "./definitions.ts";
import { denseBlocks, type Blocks } from "./dense-blocks.ts";
import { difference, textOf } from "./judge.ts";
import { distinctText, randomModel } from "./judged-models.ts";
import { placeOf } from "./sequences.ts";

/** `blocks` whose heads file names some heads that choose for all. */

const judged = randomModel("3 key heads of 6", { vocabSize: 256 });
const { config, weights, llama } = judged;
const model = new LanguageModel({ backend: createReference(config, weights), tokenizer: null, chatTemplate: null });
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

async function read(method: ReturnType<typeof blocks>, chunk = 48): Promise<Float32Array> {
  return model.session({ method, chunk }).prefill(ids, { logitRows: ids.length });
}

describe.each(FORMS)("$query, $positions, $representative", (form) => {
  const defined = (askers?: Blocks["askers"]) =>
    denseBlocks(llama, { ...SIZES, ...form, share: "heads", askers }, attention).read(ids);

  it("named heads choose in their layers, all heads elsewhere", async () => {
    const method = blocks({ ...SIZES, ...form, heads: fileOf([[1, 4], [1, 0]]) }); // prettier-ignore
    expect(difference(await read(method), defined({ 1: [0, 4] }))).toBeLessThan(1e-5);
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

  const others = DEVICES.filter((device) => device !== "reference");
  it.each(others)("is refused by name on %s, which lets all heads ask", async (device) => {
    const other = placeOf(device).open(config, weights);
    const opened = await other;
    afterAll(() => opened.dispose());
    const session = opened.session({ method: blocks({ ...SIZES, heads: fileOf([[1, 4]]) }) });
    await expect(session.prefill(ids)).rejects.toThrow(/by some heads.*use the device reference/);
    session.dispose();
  });
});
