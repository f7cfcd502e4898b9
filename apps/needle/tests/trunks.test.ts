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

it.each(["none", "rerope:window=40"])("reads on from a prefix to the very same numbers: %s", async (label) => {
  const method = methodOf(label);
  const trunks = new Trunks();
  const reused: number[] = [];
  for (const place of [590, 300, 310, 20]) {
    const ids = prompt(place);
    const cold = model.session({ method: method.method, capacity: CAPACITY });
    const expected = await cold.prefill(ids);
    const answer = await cold.generate({ maxNew: 4 }).complete();
    cold.dispose();
    const warm = trunks.take(model, method, CAPACITY, ids);
    reused.push(warm.length);
    expect(await warm.prefill(ids.slice(warm.length))).toEqual(expected);
    expect(await warm.generate({ maxNew: 4 }).complete()).toBe(answer);
  }
  trunks.dispose();
  expect(reused).toEqual([0, 256, 256, 0]);
});

it("keeps the lengths and methods apart, and begins anew after a failure", async () => {
  const trunks = new Trunks();
  const [none, rerope] = METHODS.map(methodOf);
  await trunks.take(model, none, CAPACITY, prompt(20)).prefill(prompt(20));
  expect(trunks.take(model, rerope, CAPACITY, prompt(20)).length).toBe(0);
  expect(trunks.take(model, none, CAPACITY, prompt(20)).length).toBe(512);
  trunks.forget(none);
  expect(trunks.take(model, none, CAPACITY, prompt(20)).length).toBe(0);
  trunks.dispose();
});

it("goes on only where a prefix means the same in every prompt", () => {
  expect(METHODS.filter((label) => reusable(model, methodOf(label)))).toEqual(["none", "rerope:window=40"]);
});
