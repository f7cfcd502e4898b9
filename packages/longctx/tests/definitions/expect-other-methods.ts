import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LanguageModel, Session } from "@longctx/core";
import { methods } from "../../src/methods.ts";
import * as is from "./definitions.ts";
import { blockRule, denseBlocks, type Blocks } from "./dense-blocks.ts";
import { foretold } from "./choosing.ts";
import { denseLogits, type Attention } from "./dense-llama.ts";
import { textOf } from "./judge.ts";
import { once, randomText, type JudgedModel } from "./judged-models.ts";
import { expectClose, optionsOf, readCalls, start, type Place } from "./sequences.ts";

/** Tokens that a trunk reads, and tokens that its fork reads on. */
const [READ, REST] = [100, 60];

/** Methods of the trunk and of the fork, as specs and as formulas. */
const PAIRS: readonly (readonly [string, readonly is.Part[], string, readonly is.Part[]])[] = [
  ["none", [], "rerope:window=12", [is.rerope(12)]],
  ["rerope:window=12+yarn:factor=4", [is.rerope(12), is.yarn(4)], "none", []],
  ["none", [], "ntk:factor=4+logn", [is.ntk(4), is.logn]],
  ["dynamic-ntk:factor=2", [is.dynamicNtk(2)], "self-extend:window=12,group=3", [is.selfExtend(12, 3)]],
  ["dual-chunk:chunk=20,cap=28", [is.dualChunk(20, 28)], "dynamic-ntk:factor=2", [is.dynamicNtk(2)]],
  // A trunk that keeps everything has what a method keeps that evicts.
  ["none", [], "streaming:sinks=3,window=20", [is.streaming(3, 20)]],
  ["streaming:sinks=4,window=40", [is.streaming(4, 40)], "lm-infinite:sinks=2,window=30", [is.lmInfinite(2, 30)]],
  ["parallel:windows=3", [is.parallel(3)], "interpolation:factor=2", [is.interpolation(2)]],
];

const MEANS = { representative: "mean", repr: 4, query: "chunk", share: "heads" } as const;
const USUAL: Blocks = { size: 8, top: 2, local: 16, sinks: 2, exec: 16, positions: "constant", ...MEANS };
/** All blocks in their order: the plain model. */
const PLAIN: Blocks = { ...USUAL, top: 100, positions: "ordered" };
const OTHER: Blocks = { size: 5, top: 3, local: 20, sinks: 0, exec: 10, positions: "ordered", ...MEANS };

const specOf = (blocks: Blocks): string =>
  blocks === PLAIN
    ? "none"
    : `blocks:${Object.entries(blocks)
        .map(([name, value]) => `${name}=${value}`)
        .join(",")}`;

/** Tests that a fork under other methods attends by them, with the keys and values that its trunk computed. */
export function expectOtherMethods(judged: JudgedModel, place: Place): void {
  const { llama, config, weights } = judged;
  let model: LanguageModel;
  beforeAll(async () => void (model = await place.open(config, weights)));
  afterAll(() => model.dispose());
  const ids = randomText(judged, READ + REST, 11);
  const trunkOf = async (spec: string, chunk: number): Promise<Session> => {
    const trunk = start(model, spec, chunk);
    await trunk.prefill(ids.slice(0, READ));
    return trunk;
  };

  it.each(PAIRS.map(([before, a, after, b]) => [before, after, a, b] as const))(
    "%s, then %s",
    async (before, after, partsBefore, partsAfter) => {
      const expected = once(judged, `${before} then ${after}`, () => {
        const first = is.define(partsBefore, textOf(llama, READ, config.trainedWindow));
        const second = is.define(partsAfter, textOf(llama, READ + REST, config.trainedWindow));
        // `parallel` cuts the first prompt; N stays its length.
        return denseLogits(llama, ids, oneAfterTheOther(first, second)).subarray(READ * llama.vocabSize);
      });
      for (const chunk of [7, 64]) {
        const trunk = await trunkOf(before, chunk);
        const fork = trunk.fork({ method: methods.parse(after) });
        expect(fork.method.spec).toBe(after);
        trunk.dispose();
        const rest = ids.slice(READ);
        const logits = [
          ...(await fork.prefill(rest.slice(0, 41), { logitRows: 41, length: READ + REST })),
          ...(await fork.prefill(rest.slice(41, -1), { logitRows: REST - 42, length: READ + REST })),
          ...(await fork.prefill(rest.slice(-1))),
        ];
        expectClose(logits, expected, place);
        fork.dispose();
      }
    },
  );

  const CALLS = [23, 35, 1, 1];
  const dense = (first: Blocks, second: Blocks, parts: readonly is.Part[] = []) =>
    once(judged, JSON.stringify(["then", first, second, parts.length]), () => {
      const attention = (of: readonly is.Part[]) => is.define(of, textOf(llama, 160, config.trainedWindow));
      const clear = foretold(1e-4);
      const trunk = denseBlocks(llama, first, attention([]), clear);
      trunk.read(ids.slice(0, READ));
      return trunk.fork(blockRule(llama, second, attention(parts), clear)).read(ids.slice(READ), CALLS);
    });

  describe.each<[Blocks, Blocks]>([
    [PLAIN, USUAL],
    [USUAL, PLAIN],
    [USUAL, OTHER],
  ])("%o, then %o", (first, second) => {
    it("reads on", async () => {
      const fork = (await trunkOf(specOf(first), 64)).fork({ method: methods.parse(specOf(second)) });
      expectClose(await readCalls(fork, ids.slice(READ), CALLS), dense(first, second), place);
    });

    it("after a fork of the fork, a truncation, and when it was saved", async () => {
      const method = methods.parse(specOf(second));
      const fork = (await trunkOf(specOf(first), 9)).fork({ method });
      const options = { ...optionsOf(method), chunk: 64 };
      const restored = model.restoreSession(await fork.save(), options);
      const twig = fork.fork();
      await twig.prefill(ids.slice(3, 30));
      twig.truncate(READ);
      for (const one of [restored, twig])
        expectClose(await readCalls(one, ids.slice(READ), CALLS), dense(first, second), place);
    });
  });

  it("with a frequency method beside the blocks", async () => {
    const fork = (await trunkOf("none", 64)).fork({ method: methods.parse(`ntk:factor=4+${specOf(USUAL)}`) });
    expectClose(await readCalls(fork, ids.slice(READ), CALLS), dense(PLAIN, USUAL, [is.ntk(4)]), place);
  });

  it("a method that evicts keeps the rings of its trunk, also when it was saved", async () => {
    const method = methods.parse("streaming:sinks=3,window=20");
    const fork = (await trunkOf("none", 64)).fork({ method });
    expect(fork.layout).toEqual({ capacity: 256, pinned: 256 });
    const restored = model.restoreSession(await fork.save(), { ...optionsOf(method), chunk: 64 });
    expect(restored.layout).toEqual({ capacity: 256, pinned: 256 });
    const [a, b] = [await fork.prefill(ids.slice(READ)), await restored.prefill(ids.slice(READ))];
    expectClose(a, b, place);
    fork.truncate(50); // nothing was evicted
    expect(fork.length).toBe(50);
  });
}

/** Queries of the text's first `READ` tokens attend by one definition, later ones by another. */
function oneAfterTheOther(first: Attention, second: Attention): Attention {
  const of = (m: number) => (m < READ ? first : second);
  return {
    angle: (m, n, i, layer) => of(m).angle(m, n, i, layer),
    visible: (m, n) => of(m).visible(m, n),
    scale: (m) => of(m).scale(m) * of(m).amplitude ** 2,
    amplitude: 1,
  };
}
