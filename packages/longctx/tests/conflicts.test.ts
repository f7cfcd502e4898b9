import { describe, expect, it } from "vitest";
import { compose, MethodRegistry } from "@longctx/core";
import { ropeMethods } from "@longctx/rope";
import { windowMethods } from "@longctx/windows";

const registry = new MethodRegistry([...ropeMethods, ...windowMethods]);

describe("methods of different packages", () => {
  it.each([
    ["dynamic-ntk:factor=2+streaming:window=8", "its cache never grows"],
    ["streaming:window=8+dynamic-ntk:factor=2", "its cache never grows"],
    ["rerope:window=8+streaming:window=8", "both change the distance"],
  ])("%s is refused", (spec, message) => {
    expect(() => compose(...registry.parse(spec))).toThrow(message);
  });

  it.each(["yarn:factor=4+streaming:sinks=4,window=1020", "streaming:window=8+ntk:factor=2", "none+rerope:window=8"])(
    "%s is composed",
    (spec) => {
      const methods = registry.parse(spec);
      const composition = compose(...methods);
      expect(composition.spec).toBe(spec);
      expect(composition.parts).toHaveLength(2);
    },
  );
});
