import { describe, expect, it } from "vitest";
import { DEVICES, TOLERANCE } from "../devices.ts";
import { compositions, single, type Case } from "./cases.ts";
import { expectDefinitions } from "./expect-definitions.ts";
import { difference, judgeOf } from "./judge.ts";

describe("a composition is its definition", () => {
  expectDefinitions(compositions);
});

/** Self-Extend and dual chunks switch the checkpoint's own window off, the others keep it. */
const IN_A_WINDOW = [
  "none",
  "yarn:factor=4",
  "rerope:window=12",
  "leaky-rerope:window=12,factor=3.5",
  "self-extend:window=8,group=4",
  "dual-chunk:chunk=12,cap=20",
  "streaming:sinks=3,window=11",
  "prefix:length=20",
  "parallel:windows=3",
  "parallel:windows=1",
];

describe("a checkpoint with a sliding window of its own", async () => {
  const mistral = await judgeOf("mistral-swa");
  const ids = mistral.ids(160);
  const known: readonly Case[] = IN_A_WINDOW.map((spec) => single.find((method) => method.spec === spec)!);

  describe.each(DEVICES)("%s", (device) => {
    it.each(known)("$spec", async (method) => {
      const computed = await mistral.read(device, method, ids, { chunk: 16, together: 160, prompt: 160 });
      expect(difference(computed, mistral.logits(method, 160))).toBeLessThan(TOLERANCE[device]);
    });
  });
});
