import { describe, expect, it } from "vitest";
import { compose, MethodRegistry } from "@longctx/core";
import { ropeMethods } from "@longctx/rope";
import { windowMethods } from "@longctx/windows";

const factors = { short: [1, 1], long: [1, 2] };
const registry = new MethodRegistry([...ropeMethods, ...windowMethods], () => factors);

describe("methods of different packages", () => {
  it.each([
    ["dynamic-ntk:factor=2+streaming:window=8", "never spans the whole text"],
    ["streaming:window=8+dynamic-ntk:factor=2", "never spans the whole text"],
    ["dynamic-ntk:factor=2+lm-infinite:window=8", "never spans the whole text"],
    ["longrope:factors=f.json,factor=2+streaming:window=8", "never spans the whole text"],
    ["lm-infinite:window=8+longrope:factors=f.json,factor=1", "never spans the whole text"],
    ["longrope:factors=f.json,factor=2+logn", "both change the temperature"],
    ["longrope:factors=f.json,factor=2+rerope:window=8,logn=1", "both change the temperature"],
    ["yarn:factor=2+logn", "both change the temperature"],
    ["yarn:factor=2,form=paper+llama3:factor=8", "both change the frequencies"],
    ["rerope:window=8+streaming:window=8", "both change the distance"],
    ["self-extend:window=8,group=2+streaming:window=8", "both change the distance"],
    ["dual-chunk:chunk=8,cap=9+streaming:window=8", "both change the distance"],
    ["self-extend:window=8,group=2+lm-infinite:window=8", "both change the distance"],
    ["dual-chunk:chunk=8,cap=9+lm-infinite:window=8", "both change the distance"],
    ["leaky-rerope:window=8,factor=2+parallel:windows=2", "both change the distance"],
    ["parallel:windows=2+streaming:window=8", "both change the visibility"],
    ["parallel:windows=2+prefix:length=8", "both change the visibility"],
    ["parallel:windows=2+sliding:window=8", "both change the visibility"],
    ["prefix:length=8+streaming:window=8", "both change the visibility"],
    ["prefix:length=8+lm-infinite:window=8", "both change the visibility"],
    ["prefix:length=8+sliding:window=8", "both change the visibility"],
    ["lm-infinite:window=8+streaming:window=8", "both change the visibility"],
    ["sliding:window=8+streaming:window=8", "both change the visibility"],
    ["leaky-rerope:window=8,factor=2,logn=1+logn", "both change the temperature"],
  ])("%s is refused", (spec, message) => {
    expect(() => compose(...registry.parse(spec))).toThrow(message);
  });

  it.each([
    "yarn:factor=4+streaming:sinks=4,window=1020",
    "streaming:window=8+ntk:factor=2",
    "none+rerope:window=8",
    "longrope:factors=f.json,factor=2+parallel:windows=2",
    "longrope:factors=f.json,factor=1+logn",
    "yarn:factor=4,attention_factor=1+logn",
    "truncation+lm-infinite:window=8",
    "logn+streaming:window=8",
  ])("%s is composed", (spec) => {
    const methods = registry.parse(spec);
    const composition = compose(...methods);
    expect(composition.spec).toBe(spec);
    expect(composition.parts).toHaveLength(2);
  });
});
