import { describe, expect, it } from "vitest";
import { compose, LanguageModel, makeTable, MethodRegistry, type Method } from "@longctx/core";
import { defaultFrequencies } from "../../rope/src/index.ts";
import { prefix, windowMethods } from "../src/index.ts";
import { distances } from "../../rope/tests/distances.ts";
import { largestDifference, readText, tinyBackend, tinyConfig, tinyIds } from "../../core/tests/tiny-model.ts";

const config = tinyConfig();
const backend = tinyBackend();
const ids = tinyIds(30);
const row = (logits: Float32Array, m: number) => logits.slice(m * 32, (m + 1) * 32);

describe("prefix", () => {
  it("shows the whole prefix to its own queries at signed distances, and is causal behind it", () => {
    const method = prefix({ length: 4 });
    expect(distances(method, config, 0, { tokens: 6 })).toEqual([0, -1, -2, -3, null, null]);
    expect(distances(method, config, 3, { tokens: 6 })).toEqual([3, 2, 1, 0, null, null]);
    expect(distances(method, config, 4, { tokens: 6 })).toEqual([4, 3, 2, 1, 0, null]);
    expect(distances(method, config, 5, { tokens: 6 })).toEqual([5, 4, 3, 2, 1, 0]);
  });

  it("of no token or one is the plain text", () => {
    for (const length of [0, 1])
      for (let m = 0; m < 6; m++)
        expect(distances(prefix({ length }), config, m, { tokens: 6 })).toEqual(
          Array.from({ length: 6 }, (_, n) => (n <= m ? m - n : null)),
        );
  });

  it("keeps a checkpoint's own sliding window backwards", () => {
    const own = tinyConfig({ slidingWindows: [3, 3] });
    expect(distances(prefix({ length: 6 }), own, 4, { tokens: 8 })).toEqual([null, null, 2, 1, 0, -1, null, null]);
    expect(distances(prefix({ length: 6 }), own, 7, { tokens: 8 })).toEqual([null, null, null, null, null, 2, 1, 0]);
  });

  it("lets the first tokens know the last of the prefix and nothing behind it", async () => {
    const method = compose(prefix({ length: 12 }));
    const logits = await readText(backend, method, ids);
    const changedAt = async (n: number) =>
      readText(
        backend,
        method,
        ids.map((id, i) => (i === n ? (id + 7) % 32 : id)),
      );
    expect(largestDifference(row(await changedAt(11), 0), row(logits, 0))).toBeGreaterThan(1e-4);
    const behind = await changedAt(12);
    expect(behind.slice(0, 12 * 32)).toEqual(logits.slice(0, 12 * 32));
    expect(largestDifference(row(behind, 12), row(logits, 12))).toBeGreaterThan(1e-4);
  });

  it("reads a text and its mirror image alike, when pairs turn the other way round", async () => {
    const method = prefix({ length: 30 });
    const turned: Method = {
      spec: "turned",
      axes: ["frequencies"],
      frequencies: ({ rope }) => makeTable(defaultFrequencies(rope.base, rope.rotarySize).map((theta) => -theta)),
    };
    const logits = await readText(backend, compose(method), ids);
    const mirrored = await readText(backend, compose(method, turned), ids.toReversed());
    for (const m of ids.keys()) expect(largestDifference(row(mirrored, 29 - m), row(logits, m))).toBeLessThan(1e-6);
    const straight = await readText(backend, compose(method), ids.toReversed());
    expect(largestDifference(row(straight, 29), row(logits, 0))).toBeGreaterThan(1e-4);
  });

  it("is read at once by sessions, whatever the chunk, and refuses less", async () => {
    const model = new LanguageModel({ backend, tokenizer: null, chatTemplate: null });
    const whole = await readText(backend, compose(prefix({ length: 12 })), ids);
    for (const chunk of [1, 5, 12, 40]) {
      const session = model.session({ method: prefix({ length: 12 }), chunk });
      const logits = await session.prefill(ids, { logitRows: 30 });
      expect(largestDifference(logits, whole)).toBeLessThan(1e-6);
    }
    const session = model.session({ method: prefix({ length: 12 }) });
    await expect(session.prefill([ids[0]])).rejects.toThrow(
      "The first 12 tokens see each other under prefix:length=12, so one call has to read them, but it has 1.",
    );
    await session.prefill(ids.slice(0, 12));
    for (const [i, id] of ids.slice(12).entries())
      expect(largestDifference(await session.prefill([id]), row(whole, 12 + i))).toBeLessThan(1e-6);
    expect(() => session.truncate(11)).toThrow(/Truncate to 0, or to at least 12/);
  });

  it.each([
    ["prefix", "prefix needs length"],
    ["prefix:length=-1", "a whole number of at least 0"],
    ["prefix:length=1.5", "a whole number of at least 0"],
  ])("%s is refused", (spec, message) => {
    expect(() => new MethodRegistry(windowMethods).parse(spec)).toThrow(message);
  });
});
