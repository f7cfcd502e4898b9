import { describe, expect, it } from "vitest";
import { cli } from "./command-line.ts";

describe("longctx tune", () => {
  it("is for webgpu", async () => {
    const { code, err } = await cli(["tune", "--device", "cpu"]);
    expect([code, err]).toEqual([1, "longctx: --device cpu has nothing to tune; it is for webgpu.\n"]);
  });

  it.each([
    [["--rounds", "0"], /--rounds is "0"/],
    [["--chunk", "8"], /--chunk is "8", but has to be a whole number of at least 64/],
    [["--model", "/nowhere.gguf"], /nowhere\.gguf/],
  ])("refuses %j in one line", async (given, message) => {
    const { code, err } = await cli(["tune", ...given]);
    expect(code).toBe(1);
    expect(err).toMatch(message);
    expect(err.trim().split("\n")).toHaveLength(1);
  });
});
