import { load, type LanguageModel } from "longctx";
import { afterAll, beforeAll, expect, it } from "vitest";
import { resolveMethod, type ResolvedMethod } from "../src/run/schedule.ts";
import { reusable, Trunks } from "../src/run/trunks.ts";

let model: LanguageModel;
beforeAll(async () => {
  model = await load("tiny", { device: "cpu" });
});
afterAll(() => model.dispose());

const METHODS = [
  "none",
  "rerope:window=40",
  "dynamic-ntk:factor=2",
  "streaming:sinks=4,window=60",
  "parallel:windows=3",
];
const LENGTH = 600;
const CAPACITY = LENGTH + 8;

function methodOf(label: string): ResolvedMethod {
  return { label, length: LENGTH, method: resolveMethod(label, LENGTH, 256) };
}

/** The same text but for a few tokens at a place. */
function prompt(place: number): number[] {
  return Array.from({ length: LENGTH }, (_, i) =>
    i >= place && i < place + 5 ? 7 + (place % 90) : 3 + ((i * 31) % 150),
  );
}

const FORKED = ["streaming:sinks=4,window=60", "infini:segment=32,beta=0.5"];

it.each(["none", "rerope:window=40", "prefix:length=20", "blocks:size=16,top=2,local=64,exec=64", ...FORKED])(
  "reads on from a prefix to the very same numbers: %s",
  async (label) => {
    const method = methodOf(label);
    const trunks = new Trunks();
    const reused: number[] = [];
    const places = [590, 300, 310, 20];
    for (const [i, place] of places.entries()) {
      const ids = prompt(place);
      const cold = model.session({ method: method.method, capacity: CAPACITY });
      const expected = await cold.prefill(ids);
      const answer = await cold.generate({ maxNew: 4 }).complete();
      cold.dispose();
      const upcoming = places.slice(i + 1).map(prompt);
      const beginning = await trunks.take(model, method, ids, { capacity: CAPACITY, upcoming: () => upcoming });
      const { session: warm } = beginning;
      reused.push(beginning.reused);
      // The places of old blocks depend on what was read before, and with them how sums round.
      const logits = await warm.prefill(ids.slice(warm.length));
      expect(Math.max(...logits.map((logit, at) => Math.abs(logit - expected[at])))).toBeLessThan(
        label.startsWith("blocks") ? 1e-4 : Number.MIN_VALUE,
      );
      expect(await warm.generate({ maxNew: 4 }).complete()).toBe(answer);
      beginning.release();
    }
    trunks.dispose();
    // Whole chunks, or whole groups, before the place where the prompts part; the ring of `streaming` ends chunks too.
    const before300 = label.startsWith("blocks") ? 256 : label.startsWith("streaming") ? 191 : 256;
    expect(reused).toEqual([0, before300, before300, 0]);
  },
);

it("keeps the lengths and methods apart, and begins anew after a failure", async () => {
  const trunks = new Trunks();
  const [none, rerope] = METHODS.map(methodOf);
  const held = async (method: ResolvedMethod) =>
    (await trunks.take(model, method, prompt(20), { capacity: CAPACITY })).session;
  await (await held(none)).prefill(prompt(20));
  expect((await held(rerope)).length).toBe(0);
  expect((await held(none)).length).toBe(512);
  trunks.forget(none);
  expect((await held(none)).length).toBe(0);
  trunks.dispose();
});

it("goes on only where a prefix means the same in every prompt", () => {
  expect(METHODS.filter((label) => reusable(model, methodOf(label)))).toEqual([
    "none",
    "rerope:window=40",
    "streaming:sinks=4,window=60",
  ]);
});
