import { beforeAll, describe, expect, it } from "vitest";
import type { LanguageModel } from "@longctx/core";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, modelOf, TOLERANCE, type Device } from "./devices.ts";
import { readGolden } from "./read-golden.ts";

/** At these settings a method is, by its definition, the model as it is: the trained window is 64, the text 160 tokens. */
const NEUTRAL: readonly (readonly [spec: string, tokens: number])[] = [
  ["none", 160],
  ["interpolation:factor=1", 160],
  ["ntk:factor=1", 160],
  ["dynamic-ntk:factor=8", 64],
  ["yarn:factor=1", 160],
  ["yarn:factor=1,truncate=0,beta_fast=9,beta_slow=2", 160],
  ["rerope:window=160", 160],
  ["rerope:window=64,logn=1", 64],
  ["streaming:sinks=4,window=156", 160],
  ["streaming:sinks=0,window=160", 160],
  ["yarn:factor=1+rerope:window=160", 160],
  ["dynamic-ntk:factor=8+rerope:window=64,logn=1", 64],
];

/** Pairs that are the same model by their definitions. */
const EQUAL: readonly (readonly [string, string])[] = [
  ["dynamic-ntk:factor=1", "ntk:factor=2.5"], // n / T for the 160 tokens of the text
  ["streaming:sinks=160,window=1", "none"],
  ["rerope:window=40+yarn:factor=1", "rerope:window=40"],
  ["interpolation:factor=4+rerope:window=160,logn=0", "interpolation:factor=4"],
];

/** Each changes what is computed, alone or together. */
const WORKING: readonly string[] = [
  "interpolation:factor=4",
  "ntk:factor=4",
  "dynamic-ntk:factor=4",
  "yarn:factor=4",
  "rerope:window=24",
  "rerope:window=24,logn=1+interpolation:factor=4",
  "rerope:window=24+yarn:factor=4",
  "rerope:window=24,logn=1+yarn:factor=4,attention_factor=1",
  "yarn:factor=4+streaming:sinks=4,window=40",
  "streaming:sinks=4,window=40",
];

describe.each(DEVICES)("%s", (device) => {
  let model: LanguageModel;
  let reference: LanguageModel;
  let ids: readonly number[];
  const read = (spec: string, { on = model, chunk = 160, tokens = 160 } = {}) =>
    on
      .session({ method: methods.parse(spec), chunk, capacity: 160 })
      .prefill(ids.slice(0, tokens), { logitRows: tokens });

  beforeAll(async () => {
    const { config, weights, cases } = await readGolden("llama");
    const create = (on: Device) => modelOf(on, config, weights);
    model = create(device);
    reference = create("reference");
    ids = cases[1].ids;
  });

  it.each(NEUTRAL)("%s is the model as it is, for %i tokens", async (spec, tokens) => {
    expect(difference(await read(spec, { tokens }), await read("none", { tokens }))).toBeLessThan(TOLERANCE.reference);
  });

  it.each(EQUAL)("%s is %s", async (a, b) => {
    expect(difference(await read(a), await read(b))).toBeLessThan(TOLERANCE.reference);
  });

  it.each(WORKING)("%s is its definition, whatever the chunks", async (spec) => {
    const whole = await read(spec, { on: reference });
    expect(difference(whole, await read("none", { on: reference }))).toBeGreaterThan(1e-3);
    for (const chunk of [1, 7, 1000]) expect(difference(await read(spec, { chunk }), whole)).toBeLessThan(1e-4);
  });
});
