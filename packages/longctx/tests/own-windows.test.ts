import { describe, expect, it } from "vitest";
import type { LanguageModel, ModelConfig } from "@longctx/core";
import { methods } from "../src/methods.ts";
import { DEVICES, difference, modelOf, TOLERANCE, type Device } from "./devices.ts";
import { readGolden } from "./read-golden.ts";

/** A checkpoint whose layers have a sliding window, and what transformers computes with it. */
const golden = await readGolden("mistral-swa");
const [window] = golden.config.slidingWindows;
const unbounded: ModelConfig = { ...golden.config, slidingWindows: golden.config.slidingWindows.map(() => null) };
const [, { ids, logits }] = golden.cases;

const modelsOf = (device: Device) => ({
  own: modelOf(device, golden.config, golden.weights),
  unbounded: modelOf(device, unbounded, golden.weights),
});
const models = { reference: modelsOf("reference"), cpu: modelsOf("cpu") };
const known = new Map<string, Promise<Float32Array>>();

/** All logits; each combination is read once. */
function read(device: Device, which: "own" | "unbounded", spec: string): Promise<Float32Array> {
  const key = [device, which, spec].join(" ");
  const computed = known.get(key) ?? readAnew(models[device][which], spec);
  known.set(key, computed);
  return computed;
}

async function readAnew(model: LanguageModel, spec: string): Promise<Float32Array> {
  const session = model.session({ method: methods.parse(spec), chunk: 24, capacity: 256 });
  const computed = await session.prefill(ids, { logitRows: ids.length });
  session.dispose();
  return computed;
}

describe.each(DEVICES)("a checkpoint with a sliding window of its own: %s", (device) => {
  const tolerance = device === "reference" ? 5e-5 : TOLERANCE[device];

  it("is the checkpoint without it under the method of that window", async () => {
    expect(new Set(golden.config.slidingWindows)).toEqual(new Set([window]));
    expect(difference(await read(device, "unbounded", `sliding:window=${window}`), logits)).toBeLessThan(tolerance);
    expect(difference(await read(device, "unbounded", "none"), logits)).toBeGreaterThan(0.1);
    expect(difference(await read(device, "own", `sliding:window=${window! + 9}`), logits)).toBeLessThan(tolerance); // prettier-ignore
  });

  it.each([`sliding:window=${window! - 5}`, `rerope:window=${window! + 5}+sliding:window=${window! - 5}`])(
    "has the narrower window: %s",
    async (spec) => {
      const narrow = await read(device, "own", spec);
      expect(difference(narrow, await read(device, "unbounded", `sliding:window=${window! - 5}`))).toBeLessThan(1e-5);
      expect(difference(narrow, logits)).toBeGreaterThan(0.1);
    },
  );

  it.each(["self-extend:window=8,group=4", "dual-chunk:chunk=24,cap=36"])("loses it to %s", async (spec) => {
    const own = await read(device, "own", spec);
    expect(difference(own, await read(device, "unbounded", spec))).toBe(0);
    expect(difference(own, await read(device, "unbounded", `${spec}+sliding:window=${window}`))).toBeGreaterThan(0.01);
  });

  it("loses it to parallel windows, whose task sees them all", async () => {
    const own = await read(device, "own", "parallel:windows=3");
    expect(difference(own, await read(device, "unbounded", "parallel:windows=3"))).toBe(0);
    expect(difference(await read(device, "own", "parallel:windows=1"), logits)).toBeLessThan(tolerance);
  });

  it.each(["leaky-rerope:window=8,factor=4", "lm-infinite:sinks=4,window=10", "prefix:length=40"])(
    "keeps it under %s",
    async (spec) => {
      const own = await read(device, "own", spec);
      expect(difference(own, await read(device, "unbounded", spec))).toBeGreaterThan(0.01);
    },
  );
});
