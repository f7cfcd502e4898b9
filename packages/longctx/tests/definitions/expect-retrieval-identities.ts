import { afterAll, beforeAll, expect, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import { methods } from "../../src/methods.ts";
import { Report } from "./choosing.ts";
import { covering } from "./covering.ts";
import * as is from "./definitions.ts";
import { attend, denseForward, denseLogits } from "./dense-llama.ts";
import { difference, textOf } from "./judge.ts";
import { distinctText, once, type JudgedModel } from "./judged-models.ts";
import { expectClose, readCalls, start, type Place } from "./sequences.ts";
import { refusalOf } from "./side-by-side.ts";
import { watch } from "./watch.ts";

/** A prompt, and tokens one by one behind it. */
const CALLS = [120, 1, 1, 1, 1, 1, 1];
const LENGTH = 126;

interface Setting {
  readonly judged: JudgedModel;
  readonly place: Place;
  readonly model: () => LanguageModel;
  readonly ids: readonly number[];
}

/** Tests that retrieval is other methods where it has to be, by those methods' own definitions, in `many` forms or a few. */
export function expectIdentities(judged: JudgedModel, place: Place, many: boolean): void {
  let model: LanguageModel;
  beforeAll(async () => void (model = await place.open(judged.config, judged.weights)));
  afterAll(() => model.dispose());
  const setting: Setting = { judged, place, model: () => model, ids: distinctText(judged, LENGTH, 5) };
  expectEverything(setting, many ? BLOCKS : BLOCKS.slice(0, 3));
  expectNothing(setting);
  if (many) expectTies(setting);
  expectRandom(setting);
}

/** Compares methods with a dense computation of other ones. */
async function expectSame(
  { judged, place, model, ids }: Setting,
  name: string,
  parts: readonly is.Part[],
  ...specs: readonly string[]
): Promise<void> {
  const text = textOf(judged.llama, CALLS[0], judged.config.trainedWindow);
  const expected = once(judged, `identity ${name}`, () => denseLogits(judged.llama, ids, is.define(parts, text)));
  for (const spec of specs) {
    const session = start(model(), spec, 64);
    expectClose(await readCalls(session, ids, CALLS), expected, place);
    session.dispose();
  }
}

/** The options of `blocks`, every two of them beside each other. */
const BLOCKS = covering({
  representative: ["mean", "salient", "bounds"],
  share: ["heads", "group", "none"],
  query: ["chunk,exec=16", "token"],
}).map(({ representative, share, query }) => `representative=${representative},share=${share},query=${query}`);

function expectEverything(setting: Setting, blocks: readonly string[]): void {
  it.each(blocks)("all blocks in order are the plain model: %s", async (options) => {
    await expectSame(setting, "plain", [], `blocks:size=8,top=100,local=16,sinks=2,positions=ordered,${options}`);
  });

  it("all blocks in order are the plain model: controls", async () => {
    await expectSame(
      setting,
      "plain",
      [],
      "oracle-block:from=0,to=1000,size=8,local=16,sinks=2,positions=ordered,exec=16",
      "random-blocks:size=8,top=100,local=16,sinks=2,positions=ordered,exec=16",
    );
  });

  it("all tokens are the plain model", async () => {
    const all = ["knn:layers=all,merge=joint,positions=true,k=1000,window=16,sinks=2", "oracle:k=126", "oracle:k=1000,window=9,sinks=3"]; // prettier-ignore
    await expectSame(setting, "plain", [], ...all);
    await expectSame(setting, "yarn", [is.yarn(4)], ...all.slice(0, 2).map((spec) => `yarn:factor=4+${spec}`));
  });

  it("all tokens are the plain model under a table that follows the length", async () => {
    const all = ["knn:positions=true,k=1000,window=16,sinks=2", "oracle:k=1000"];
    await expectSame(setting, "dynamic", [is.dynamicNtk(2)], ...all.map((spec) => `dynamic-ntk:factor=2+${spec}`));
  });

  it("all tokens at the window's distance are ReRoPE", async () => {
    await expectSame(setting, "rerope", [is.rerope(16)], "knn:k=1000,window=16,sinks=2");
    await expectSame(
      setting,
      "step",
      [{ g: (m, n) => (m - n < 16 ? m - n : n < 2 ? 16 : 0) }],
      "knn:k=1000,window=16,sinks=2,positions=none",
    );
  });
}

function expectNothing(setting: Setting): void {
  it("no tokens are LM-Infinite with the same sinks and window, and so is a closed gate", async () => {
    const { place, model, ids } = setting;
    const specs = ["", ",positions=none", ",merge=gate,gate=-1000,scale=1", ",merge=gate,gate=-1000,keys=raw"];
    const knn = specs.map((options, i) => `knn:k=${i < 2 ? 0 : 4},window=16,sinks=2${options}`);
    await expectSame(setting, "lm-infinite", [is.lmInfinite(2, 16)], ...knn);
    const theirs = await readCalls(start(model(), "lm-infinite:sinks=2,window=16", 64), ids, CALLS);
    expectClose(await readCalls(start(model(), knn[0], 64), ids, CALLS), theirs, place);
    const { visible } = is.lmInfinite(2, 16);
    await expectSame(setting, "sinks and window", [{ visible }], "knn:k=0,window=16,sinks=2,positions=true");
  });

  it.each(BLOCKS.slice(1, 3))("no blocks are a Λ-mask with the remainder: %s", async (options) => {
    const lambda = (firstOf: (m: number) => number): is.Part => ({
      g: (m, n) => Math.min(m - n, 15),
      visible: (m, n) => {
        const last = 2 + Math.floor((n - 2) / 8) * 8 + 7; // of the block that n is in
        return n <= m && (n < 2 || m - n < 16 || firstOf(m) - last < 16);
      },
    });
    // A group begins at a multiple of 16, with a call of prefill, and with each single token.
    const begins = [0, ...CALLS.map((_, i) => CALLS.slice(0, i + 1).reduce((a, b) => a + b))];
    const inGroups = (m: number) => Math.max(m - (m % 16), ...begins.filter((first) => first <= m));
    const none = `blocks:size=8,top=0,local=16,sinks=2,${options}`;
    if (options.includes("token")) await expectSame(setting, "alone", [lambda((m) => m)], none);
    else await expectSame(setting, "groups", [lambda(inGroups)], none);
  });
}

/** In a text of one token alone, all keys of the first layer are the same. */
function expectTies(setting: Setting): void {
  const { judged, model } = setting;

  const seenIn = async (spec: string) => {
    const report = new Report();
    const session = start(model(), [...methods.parse(spec), watch(report, judged.llama)], 64);
    await readCalls(session, Array.from({ length: 64 }, () => 5), [62, 1, 1]); // prettier-ignore
    return Array.from({ length: judged.llama.queryHeads }, (_, head) =>
      [61, 63].map((m) => {
        const { softmax, gated } = report.of(0, m, head);
        return [...softmax, ...gated].filter((n) => n >= 2 && m - n >= 16);
      }),
    );
  };
  const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

  it.each(BLOCKS.slice(4, 8))("of equal blocks the first are taken: %s", async (options) => {
    // Candidates are blocks 0 to 3 of 10 tokens, and to 61 and 63 blocks 0 and 1 are visible beside the remainder.
    const blocks = `blocks:size=10,top=2,local=16,sinks=2,${options.replace("exec=16", "exec=1")}`;
    for (const seen of await seenIn(blocks)) expect(seen).toEqual([[...range(2, 22), ...range(42, 46)], [...range(2, 22), ...range(42, 48)]]); // prettier-ignore
  });

  it.each(["", ",positions=none", ",merge=gate,gate=0,scale=1", ",merge=gate,gate=0,keys=raw"])(
    "of equal tokens the first are taken: %s",
    async (options) => {
      const expected = [range(2, 7), range(2, 7)];
      for (const seen of await seenIn(`knn:k=5,window=16,sinks=2${options}`)) expect(seen).toEqual(expected);
    },
  );
}

function expectRandom({ model, place, ids }: Setting): void {
  it("random blocks are a function of the seed and of the group, whatever the chunk", async () => {
    const read = (seed: number, chunk: number) =>
      readCalls(start(model(), `random-blocks:size=4,top=2,local=16,exec=16,seed=${seed}`, chunk), ids);
    const one = await read(3, 64);
    for (const chunk of [16, 7]) expectClose(await read(3, chunk), one, place);
    expect(difference(await read(4, 64), one)).toBeGreaterThan(0.01);
  });
}

/** Tests that layers with a sliding window of their own, of `window` tokens, keep it and retrieve nothing. */
export function expectOwnWindow(judged: JudgedModel, place: Place, layer: number, window: number): void {
  it.each([
    "blocks:size=4,top=100,local=6,sinks=1,exec=8,positions=ordered",
    "blocks:size=4,top=100,local=6,sinks=1,representative=salient,query=token,share=none,positions=ordered",
    "knn:k=1000,window=6,sinks=1,positions=true",
    "oracle:k=1000",
    "oracle-block:from=0,to=1000,size=4,local=6,sinks=1,exec=8,positions=ordered",
    "random-blocks:size=4,top=100,local=6,sinks=1,exec=8,positions=ordered",
  ])("a layer with a window of its own keeps it: %s", async (spec) => {
    const { llama } = judged;
    const ids = distinctText(judged, LENGTH, 5);
    const text = textOf(llama, LENGTH);
    const [own, plain] = [[is.sliding(window)], []].map((parts) => is.define(parts, text));
    const expected = once(judged, "own window", () =>
      denseForward(llama, ids, (at, rows) => attend(llama, LENGTH, rows, at === layer ? own : plain, at)),
    );
    const model = await place.open(judged.config, judged.weights);
    expectClose(await readCalls(start(model, spec, 64), ids, CALLS), expected, place);
    await model.dispose();
  });
}

/** Tests what `knn` refuses, on a model of two layers that learned gates and scales for some of them. */
export function expectParameters(open: (learnedLayers: readonly number[]) => Promise<LanguageModel>): void {
  it.each([
    ["merge=gate", [], "refused"],
    ["merge=gate,gate=0", [], "refused"],
    ["merge=gate,scale=1", [], "refused"],
    ["merge=gate,keys=raw", [], "refused"],
    ["merge=gate,keys=raw,gate=0", [], "taken"],
    ["merge=joint,keys=normalized,gate=0,scale=1", [0, 1], "refused"],
    ["layers=0/7", [], "refused"],
    ["merge=gate", [0, 1], "taken"],
    ["merge=gate", [1], "refused"],
    ["merge=gate,layers=1", [1], "taken"],
  ])("knn:%s beside gates learned for layers %o is %s", async (options, layers, outcome) => {
    const model = await open(layers);
    const refusal = refusalOf(() => start(model, `knn:k=2,window=8,${options}`, 64).dispose());
    const typed: unknown = expect.objectContaining({ name: "LongctxError", code: "method" });
    expect(refusal).toEqual(outcome === "taken" ? null : typed);
    await model.dispose();
  });
}
