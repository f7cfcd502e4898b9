import { describe, expect, it } from "vitest";
import type { ModelContext, RopeConfig } from "@longctx/core";
import { parseMethod } from "../src/methods.ts";
import { tinyModels } from "./devices.ts";

const BASE = { base: 100, rotarySize: 6 } as const;
const YARN: RopeConfig = { type: "yarn", ...BASE, factor: 4, originalMaxPositions: 16 };
const DYNAMIC: RopeConfig = { type: "dynamic", ...BASE, factor: 2 };

/** A checkpoint with a RoPE type of its own. */
function contextOf(rope: RopeConfig): ModelContext {
  const { context } = tinyModels({ rope, maxPositions: 32 }).reference;
  return context;
}

describe("a method on a checkpoint that extends its window itself", () => {
  it.each(["logn", "rerope:window=8,logn=1", "logn+streaming:window=8"])(
    "does not sharpen what YaRN has sharpened: %s",
    (spec) => {
      expect(() => parseMethod(spec).check(contextOf(YARN))).toThrow(
        /rope type yarn already does \(attention factor 1\.1386\)/,
      );
      expect(() => parseMethod(`ntk:factor=2+${spec}`).check(contextOf(YARN))).not.toThrow();
      expect(() => parseMethod(spec).check(contextOf(DYNAMIC))).not.toThrow();
    },
  );

  it.each([
    ["streaming:sinks=4,window=60", 64],
    ["lm-infinite:sinks=4,window=63", 64],
    ["sliding:window=64", 64],
  ])("meets a table that follows the length no further than attention spans: %s", (spec, span) => {
    const context = contextOf(DYNAMIC);
    const plain = parseMethod("none");
    const method = parseMethod(spec);
    for (const length of [20, 33, 64]) expect(method.table(context, length)).toEqual(plain.table(context, length));
    expect(method.table(context, 65)).toEqual(plain.table(context, span));
    expect(method.table(context, 100_000)).toEqual(plain.table(context, span));
    expect(plain.table(context, 65)).not.toEqual(plain.table(context, span));
  });

  it("counts the distances that are met, whatever the length: no pair is outside of its training under a narrow window", () => {
    const method = parseMethod("streaming:sinks=2,window=10");
    const context = contextOf(DYNAMIC);
    const [{ inverse }, plain] = [method.table(context, 5000), parseMethod("none").table(context, 12)];
    expect(inverse).toEqual(plain.inverse);
  });
});
