import { describe, expect, it } from "vitest";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, modelOf, TOLERANCE, type Device } from "./devices.ts";
import { readGolden } from "./read-golden.ts";

/** At these settings a method is, by its definition, the model as it is: the trained window is 64, the text 100 tokens. */
const NEUTRAL: readonly (readonly [spec: string, tokens: number])[] = [
  ["interpolation:factor=1", 100],
  ["ntk:factor=1", 100],
  ["dynamic-ntk:factor=8", 64],
  ["yarn:factor=1", 100],
  ["yarn:factor=1,truncate=0,beta_fast=9,beta_slow=2", 100],
  ["yarn:factor=1,form=paper", 100],
  ["ntk-by-parts:factor=1", 100],
  ["ntk-mixed:factor=1", 100],
  ["llama3:factor=1", 100],
  ["truncation:high=0", 100],
  ["power:k=0", 100],
  ["logn", 64],
  ["rerope:window=100", 100],
  ["rerope:window=64,logn=1", 64],
  ["leaky-rerope:window=24,factor=1", 100],
  ["leaky-rerope:window=100,factor=8", 100],
  ["leaky-rerope:window=64,factor=8,logn=1", 64],
  ["self-extend:window=24,group=1", 100],
  ["self-extend:window=100,group=4", 100],
  ["dual-chunk:chunk=100,cap=100", 100],
  ["dual-chunk:chunk=50,cap=100", 100],
  ["sliding:window=100", 100],
  ["lm-infinite:sinks=4,window=100", 100],
  ["parallel:windows=1", 100],
  ["prefix:length=0", 100],
  ["prefix:length=1", 100],
  ["streaming:sinks=4,window=96", 100],
  ["streaming:sinks=0,window=100", 100],
  ["yarn:factor=1+rerope:window=100", 100],
  ["dynamic-ntk:factor=8+rerope:window=64,logn=1", 64],
];

/** Pairs that are the same model by their definitions. */
const EQUAL: readonly (readonly [string, string])[] = [
  ["dynamic-ntk:factor=1", "ntk:factor=1.5625"], // n / T for the 100 tokens of the text
  ["streaming:sinks=100,window=1", "none"],
  ["rerope:window=40+yarn:factor=1", "rerope:window=40"],
  ["interpolation:factor=4+rerope:window=100,logn=0", "interpolation:factor=4"],
  ["ntk-by-parts:factor=4", "yarn:factor=4,attention_factor=1"],
  ["llama3:factor=8", "yarn:factor=8,form=paper,beta_fast=4,attention_factor=1"],
  ["ntk-mixed:factor=4,beta=0", "interpolation:factor=4"],
  ["logn+rerope:window=24", "rerope:window=24,logn=1"],
  ["leaky-rerope:window=24,factor=1000000000", "rerope:window=24"],
  ["self-extend:window=24,group=100", "rerope:window=24"],
  ["self-extend:window=24,group=1000", "rerope:window=24"],
  ["lm-infinite:sinks=0,window=24", "sliding:window=24"],
  ["lm-infinite:sinks=100,window=24", "rerope:window=24"],
  ["streaming:sinks=0,window=24", "sliding:window=24"],
  ["sliding:window=24+rerope:window=24", "sliding:window=24"],
  ["sliding:window=24+self-extend:window=24,group=4", "sliding:window=24"],
  ["sliding:window=24+dual-chunk:chunk=26,cap=50", "sliding:window=24"],
];

/** Each changes what is computed, alone or together. */
const WORKING: readonly string[] = [
  "interpolation:factor=4",
  "ntk:factor=4",
  "dynamic-ntk:factor=4",
  "yarn:factor=4",
  "yarn:factor=4,form=paper",
  "ntk-by-parts:factor=4",
  "ntk-mixed:factor=4",
  "llama3:factor=8",
  "truncation",
  "power",
  "logn",
  "llama3:factor=8+rerope:window=24+logn",
  "rerope:window=24",
  "rerope:window=24,logn=1+interpolation:factor=4",
  "rerope:window=24+yarn:factor=4",
  "rerope:window=24,logn=1+yarn:factor=4,attention_factor=1",
  "yarn:factor=4+streaming:sinks=4,window=40",
  "streaming:sinks=4,window=40",
  "leaky-rerope:window=24,factor=2.5",
  "self-extend:window=24,group=5",
  "dual-chunk:chunk=24,cap=36",
  "sliding:window=40",
  "lm-infinite:sinks=4,window=40",
  "parallel:windows=3",
  "parallel:windows=2,task=9",
  "prefix:length=37",
  "sliding:window=40+leaky-rerope:window=24,factor=4,logn=1",
  "prefix:length=37+self-extend:window=24,group=5",
  "prefix:length=37+dual-chunk:chunk=10,cap=15",
];

const { config, weights, cases } = await readGolden("llama");
const ids = cases[1].ids.slice(0, 100);
const models = { reference: modelOf("reference", config, weights), cpu: modelOf("cpu", config, weights) };
const known = new Map<string, Promise<Float32Array>>();

/** All logits; each combination is read once. */
function read(device: Device, spec: string, { chunk = 100, tokens = 100 } = {}): Promise<Float32Array> {
  const key = [device, spec, chunk, tokens].join(" ");
  const logits = known.get(key) ?? readAnew(device, spec, { chunk, tokens });
  known.set(key, logits);
  return logits;
}

async function readAnew(device: Device, spec: string, { chunk, tokens }: { chunk: number; tokens: number }) {
  const session = models[device].session({ method: methods.parse(spec), chunk, capacity: 100 });
  const logits = await session.prefill(ids.slice(0, tokens), { logitRows: tokens });
  session.dispose();
  return logits;
}

describe.each(DEVICES)("%s", (device) => {
  it.each(NEUTRAL)("%s is the model as it is, for %i tokens", async (spec, tokens) => {
    const plain = await read(device, "none", { tokens });
    expect(difference(await read(device, spec, { tokens }), plain)).toBeLessThan(TOLERANCE.reference);
  });

  it.each(EQUAL)("%s is %s", async (a, b) => {
    expect(difference(await read(device, a), await read(device, b))).toBeLessThan(TOLERANCE.reference);
  });

  it.each(WORKING)("%s differs from the model as it is, and reads the same in any chunks", async (spec) => {
    const whole = await read("reference", spec);
    expect(difference(whole, await read("reference", "none"))).toBeGreaterThan(1e-3);
    for (const chunk of device === "cpu" ? [1, 7, 1000] : [7])
      expect(difference(await read(device, spec, { chunk }), whole)).toBeLessThan(1e-4);
  });
});
