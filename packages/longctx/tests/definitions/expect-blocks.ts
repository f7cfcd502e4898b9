import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import { methods } from "../../src/methods.ts";
import { accepting, foretold, Report, TIE } from "./choosing.ts";
import * as is from "./definitions.ts";
import { denseBlocks, type Blocks } from "./dense-blocks.ts";
import { denseLogits, type Attention } from "./dense-llama.ts";
import { textOf } from "./judge.ts";
import { once, randomText, type JudgedModel } from "./judged-models.ts";
import { callsOf, expectClose, expectGenerated, optionsOf, readCalls, start, type Place } from "./sequences.ts";
import { watch } from "./watch.ts";

const COMPOSITIONS: readonly (readonly [string, readonly is.Part[]])[] = [
  ["ntk:factor=4", [is.ntk(4)]],
  ["yarn:factor=4", [is.yarn(4)]],
  ["logn", [is.logn]],
];

/** A device's choices are only foretold where every margin is far above its rounding. */
const CLEAR = foretold(1e-4);

const USUAL: Blocks = {
  size: 8,
  top: 2,
  local: 16,
  sinks: 2,
  representative: "mean",
  repr: 4,
  positions: "constant",
  query: "chunk",
  exec: 16,
  share: "heads",
};

const specOf = ({ size, top, local, sinks, exec, positions }: Blocks): string =>
  `blocks:size=${size},top=${top},local=${local},sinks=${sinks},exec=${exec},positions=${positions}`;

interface Setting {
  readonly judged: JudgedModel;
  readonly place: Place;
  readonly ids: readonly number[];
  readonly others: readonly number[];
  readonly model: () => LanguageModel;
  readonly attentionOf: (parts: readonly is.Part[]) => Attention;
  /** Logits of a text by the definition, when no choice is near a tie. */
  readonly defined: (blocks: Blocks, calls: readonly number[], text?: readonly number[]) => Float64Array;
}

/** What is tested of a model: `sequences` are the positions under which it is also forked, truncated and saved. */
interface Scope {
  readonly sequences: readonly Blocks["positions"][];
}

/** Tests that a model reads a text under `blocks` as the definition says, in every way of reading. */
export function expectBlocks(judged: JudgedModel, place: Place, { sequences }: Scope): void {
  const setting = settingOf(judged, place);
  describe.each(["constant", "ordered"] as const)("%s positions", (positions) => {
    const blocks: Blocks = { ...USUAL, positions };
    expectTexts(setting, blocks);
    if (sequences.includes(positions)) expectSequences(setting, blocks);
  });
  expectIdentities(setting);
}

/** The same for one text in one way. */
export function expectBlocksText(judged: JudgedModel, place: Place): void {
  const { ids, model, defined } = settingOf(judged, place);
  it.each(["constant", "ordered"] as const)("%s positions", async (positions) => {
    const blocks: Blocks = { ...USUAL, positions };
    const calls = callsOf(160)["with tokens one by one behind a prompt"];
    expectClose(await readCalls(start(model(), specOf(blocks), 64), ids, calls), defined(blocks, calls), place);
  });
}

/** The same for other parameters. */
export function expectBlocksParameters(judged: JudgedModel, place: Place): void {
  const setting = settingOf(judged, place);
  it.each<Partial<Blocks>>([
    { size: 5, top: 3, sinks: 0, local: 7, exec: 10 },
    { size: 1, top: 9, local: 9, exec: 2 },
    { size: 3, top: 1, sinks: 20, local: 1, exec: 6 },
    { size: 16, top: 2, sinks: 4, local: 12, exec: 40 },
    { size: 7, top: 4, sinks: 1, local: 30, exec: 9 },
  ])("other parameters, watched: %o", async (changes) => {
    await expectWatched(setting, { ...USUAL, ...changes }, [120], 64);
    await expectWatched(setting, { ...USUAL, ...changes, positions: "ordered" }, [55, 23, 1, 1, 40], 7);
  });
}

function settingOf(judged: JudgedModel, place: Place): Setting {
  const { llama, config, weights } = judged;
  let model: LanguageModel;
  beforeAll(async () => void (model = await place.open(config, weights)));
  afterAll(() => model.dispose());
  const attentionOf = (parts: readonly is.Part[]) => is.define(parts, textOf(llama, 160, config.trainedWindow));
  const ids = randomText(judged, 160, 7);
  return {
    judged,
    place,
    ids,
    others: randomText(judged, 60, 9),
    model: () => model,
    attentionOf,
    defined: (blocks, calls, text = ids) =>
      once(judged, JSON.stringify([blocks, calls, text]), () =>
        denseBlocks(llama, blocks, attentionOf([]), CLEAR).read(text, calls),
      ),
  };
}

/** Compares a text that is read while its choices are watched. */
async function expectWatched(
  { judged, place, ids, model, attentionOf }: Setting,
  blocks: Blocks,
  calls: readonly number[],
  chunk: number,
): Promise<void> {
  const report = new Report();
  const text = ids.slice(
    0,
    calls.reduce((a, b) => a + b),
  );
  const method = [...methods.parse(specOf(blocks)), watch(report, judged.llama)];
  const computed = await readCalls(start(model(), method, chunk), text, calls);
  const sequence = denseBlocks(judged.llama, blocks, attentionOf([]), accepting(report, TIE["32 bits"]));
  expectClose(computed, sequence.read(text, calls), place);
}

function expectTexts(setting: Setting, blocks: Blocks): void {
  const { place, ids, model, defined } = setting;

  it("in chunks", async () => {
    const expected = defined(blocks, [160]);
    for (const length of [48, 160])
      for (const chunk of [1, 7, 64, length]) {
        const session = start(model(), specOf(blocks), chunk);
        const computed = await readCalls(session, ids.slice(0, length));
        expectClose(computed, expected.subarray(0, computed.length), place);
        session.dispose();
      }
  });

  it.each(Object.entries(callsOf(160)).slice(1))("%s", async (_, calls) => {
    const session = start(model(), specOf(blocks), 64);
    expectClose(await readCalls(session, ids, calls), defined(blocks, calls), place);
  });

  it("watched", async () => {
    await expectWatched(setting, blocks, [100, 47, 1, 1, 1, 10], 64);
  });

  it("while generating", async () => {
    const session = start(model(), specOf(blocks), 64);
    await session.prefill(ids.slice(0, 90));
    const callsOfAll = (text: readonly number[]) => [90, ...text.slice(90).map(() => 1)];
    await expectGenerated(session, 21, (text) => defined(blocks, callsOfAll(text), text), place);
  });
}

function expectSequences({ judged, place, ids, others, model, attentionOf }: Setting, blocks: Blocks): void {
  const dense = (parts: readonly is.Part[]) => denseBlocks(judged.llama, blocks, attentionOf(parts), CLEAR);
  /** The first 90 tokens read by one call, by a device and by the definition. */
  const begun = async (chunk = 64) => {
    const definition = once(judged, `begun ${specOf(blocks)}`, () => {
      const sequence = dense([]);
      sequence.read(ids.slice(0, 90));
      return sequence;
    });
    const session = start(model(), specOf(blocks), chunk);
    await session.prefill(ids.slice(0, 90));
    return [session, definition.fork()] as const;
  };

  it("after a fork, in both branches and in a branch of a branch", async () => {
    const [trunk, ofTrunk] = await begun();
    const [branch, ofBranch] = [trunk.fork(), ofTrunk.fork()];
    const first = [others.slice(0, 23), [20, 1, 1, 1]] as const;
    expectClose(await readCalls(branch, ...first), ofBranch.read(...first), place);
    const twig = branch.fork();
    const rest = [ids.slice(90, 140), [30, 20]] as const;
    expectClose(await readCalls(trunk, ...rest), ofTrunk.read(...rest), place);
    trunk.dispose();
    const end = [others.slice(23), [1, 1, 35]] as const;
    const expected = ofBranch.read(...end);
    for (const one of [twig, branch]) expectClose(await readCalls(one, ...end), expected, place);
  });

  it.each([64, 70, 9, 0])("after truncation to %i tokens, inside a group too", async (kept) => {
    const [session, expected] = await begun();
    session.truncate(kept);
    expected.truncate(kept);
    expect(session.length).toBe(kept);
    const then = [others, [40, 1, 1, 18]] as const;
    expectClose(await readCalls(session, ...then), expected.read(...then), place);
  });

  it("after it is saved and restored", async () => {
    const [session, definition] = await begun(7);
    const options = { ...optionsOf(specOf(blocks)), chunk: 64 };
    const restored = model().restoreSession(await session.save(), options);
    const twice = model().restoreSession(await restored.save(), options);
    const expected = definition.read(others, [1, 40, 19]);
    for (const one of [session, restored, twice.fork()])
      expectClose(await readCalls(one, others, [1, 40, 19]), expected, place);
  });

  it.each(COMPOSITIONS)("with %s", async (spec, parts) => {
    const calls = [100, 59, 1];
    const expected = once(judged, `${spec}+${specOf(blocks)}`, () => dense(parts).read(ids, calls));
    const session = start(model(), `${spec}+${specOf(blocks)}`, 64);
    expectClose(await readCalls(session, ids, calls), expected, place);
  });
}

function expectIdentities({ judged, place, ids, model, attentionOf }: Setting): void {
  type Reading = readonly [Blocks, readonly number[]];
  const expectSame = async (name: string, part: is.Part, ...readings: readonly Reading[]) => {
    const expected = once(judged, name, () => denseLogits(judged.llama, ids, attentionOf([part])));
    for (const [blocks, calls] of readings)
      expectClose(await readCalls(start(model(), specOf(blocks), 64), ids, calls), expected, place);
  };
  const calls = callsOf(160)["with tokens one by one behind a prompt"];

  it("all blocks in order are the plain model", async () => {
    const all: Blocks = { ...USUAL, top: 100, positions: "ordered" };
    await expectSame("plain", {}, [all, calls], [{ ...all, top: 18 }, [160]]);
  });

  it("all blocks at a constant distance are ReRoPE", async () => {
    const all: Blocks = { ...USUAL, top: 100 };
    await expectSame("rerope", is.rerope(15), [all, calls], [all, [160]]);
  });

  it("no blocks are a Λ-mask whose sinks and remainder are at local − 1", async () => {
    const lambda = (firstOf: (m: number) => number): is.Part => ({
      g: (m, n) => Math.min(m - n, 15),
      visible: (m, n) => {
        const last = 2 + Math.floor((n - 2) / 8) * 8 + 7; // of the block that n is in
        return n <= m && (n < 2 || m - n < 16 || firstOf(m) - last < 16);
      },
    });
    const none = { ...USUAL, top: 0 };
    const inGroups = lambda((m) => m - (m % 16));
    await expectSame("groups", inGroups, [none, [160]]);
    const alone = lambda((m) => m);
    await expectSame("alone", alone, [{ ...none, exec: 1 }, [160]]);
    // Blocks and groups of one token leave no remainder.
    const bare: is.Part = { g: (m, n) => Math.min(m - n, 15), visible: (m, n) => n <= m && (n < 2 || m - n < 16) };
    await expectSame("bare", bare, [{ ...none, size: 1, exec: 1 }, [100, 60]]);
  });
}
