import { describe, expect, it } from "vitest";
import { compose, constantPosition, EVERYTHING, TEXT_POSITION, type ChunkContext, type Segment } from "@longctx/core";
import { rerope } from "../src/index.ts";
import { printed, VECTORS } from "../../core/tests/published-vectors.ts";
import { tinyConfig } from "../../core/tests/tiny-model.ts";
import { distances } from "./distances.ts";

const config = tinyConfig();
const chunk: ChunkContext = { config, trainedWindow: 4096, first: 0, count: 1, length: 1, promptLength: 1, layer: 0 };

describe("rerope", () => {
  it("is g(t) = min(t, w)", () => {
    expect(distances(rerope({ window: 4 }), config, 12)).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 4, 3, 2, 1, 0]);
    expect(distances(rerope({ window: 1 }), config, 3)).toEqual([1, 1, 1, 0]);
  });

  it("keeps a checkpoint's sliding window", () => {
    const sliding = tinyConfig({ slidingWindows: [6, 6] });
    expect(distances(rerope({ window: 4 }), sliding, 8)).toEqual([null, null, null, 4, 4, 3, 2, 1, 0]);
  });

  it("leaves segments alone that no longer have text positions", () => {
    const { table } = { table: compose().table({ config, trainedWindow: 32 }, 1) };
    const text: Segment = {
      tokens: { from: 4, to: 8 },
      table,
      queryPosition: TEXT_POSITION,
      keyPosition: TEXT_POSITION,
      band: EVERYTHING,
    };
    const placed: Segment = { ...text, tokens: { from: 0, to: 4 }, keyPosition: constantPosition(3) };
    const segments = rerope({ window: 2 }).segments!([text, placed], chunk);
    expect(
      segments.map(({ tokens, band, queryPosition, keyPosition }) => ({
        tokens,
        band,
        query: queryPosition.id,
        key: keyPosition.id,
      })),
    ).toEqual([
      { tokens: { from: 4, to: 8 }, band: { from: 0, to: 2 }, query: "text", key: "text" },
      { tokens: { from: 4, to: 8 }, band: { from: 2, to: Infinity }, query: "2", key: "0" },
      { tokens: { from: 0, to: 4 }, band: { from: 0, to: Infinity }, query: "text", key: "3" },
    ]);
  });

  it("has the log-n temperature when asked for", () => {
    expect(compose(rerope({ window: 4 })).plan(chunk).temperature).toBeUndefined();
    const { temperature } = compose(rerope({ window: 4, logn: 1 })).plan(chunk);
    expect(temperature!.at(100)).toBe(1);
    expect(temperature!.at(4095)).toBe(1);
    const { logn_L4096: published } = VECTORS;
    expect(printed([temperature!.at(8191), temperature!.at(16_383)])).toEqual([published[8192], published[16384]]);
  });
});
