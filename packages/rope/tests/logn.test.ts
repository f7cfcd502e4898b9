import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { compose, LongctxError, type ChunkContext } from "@longctx/core";
import { logn, lognTemperature, rerope } from "../src/index.ts";
import { printed, VECTORS } from "../../core/tests/published-vectors.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";

const config = tinyConfig();
const chunk = (trainedWindow: number): ChunkContext => ({
  config,
  trainedWindow,
  first: 0,
  count: 1,
  length: 1,
  promptLength: 1,
  layer: 0,
});

describe("logn", () => {
  it("is max(1, ln(m+1) / ln T), with m counted from 0", () => {
    const { temperature } = compose(logn()).plan(chunk(4096));
    expect([0, 1, 100, 4095].map((m) => temperature!.at(m))).toEqual([1, 1, 1, 1]);
    expect(temperature!.at(4096)).toBeGreaterThan(1);
    for (const [length, expected] of Object.entries(VECTORS.logn_L4096))
      expect(printed([temperature!.at(Number(length) - 1)])).toEqual([expected]);
  });

  it("is what rerope has with logn=1", () => {
    const [alone, within] = [logn(), rerope({ window: 8, logn: 1 })].map((method) => compose(method).plan(chunk(64)));
    for (const m of [0, 63, 64, 200, 1e6]) expect(alone.temperature!.at(m)).toBe(within.temperature!.at(m));
  });

  it("never flattens, and grows with the text", () => {
    const tokens = fc.nat(1e7);
    fc.assert(
      fc.property(tokens, tokens, fc.integer({ min: 2, max: 1e6 }), (a, b, trainedWindow) => {
        const [early, late] = [Math.min(a, b), Math.max(a, b)].map((m) => lognTemperature(m, { trainedWindow }));
        expect(early).toBeGreaterThanOrEqual(1);
        expect(late).toBeGreaterThanOrEqual(early);
      }),
    );
  });

  it("leaves segments and tables alone", () => {
    const [{ segments }, plain] = [compose(logn()).plan(chunk(32)), compose().plan(chunk(32))];
    expect(segments).toEqual(plain.segments);
  });

  it("is refused where ln T is 0, also as a parameter", () => {
    for (const method of [logn(), rerope({ window: 8, logn: 1 })]) {
      expect(() => compose(method).check({ config, trainedWindow: 1 })).toThrow(LongctxError);
      expect(() => compose(method).check({ config, trainedWindow: 1 })).toThrow(/trained window T is 1; give one/);
      compose(method).check({ config, trainedWindow: 2 });
    }
    compose(rerope({ window: 8 })).check({ config, trainedWindow: 1 });
  });
});
