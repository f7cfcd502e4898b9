import { describe, expect, it } from "vitest";
import { printed, VECTORS } from "../../../core/tests/published-vectors.ts";
import * as is from "./definitions.ts";

const { d8_b1e4: D8, d128_b1e4: D128, mscale, longrope_af_L4096, logn_L4096 } = VECTORS;

/** The judge is judged: its formulas give the published numbers. d = 8, b = 10⁴ unless said otherwise. */
const text: is.Text = { base: 1e4, d: 8, trainedWindow: 2048, prompt: 64, ownWindow: Infinity };

const one = (part: is.Part, changes: Partial<is.Text> = {}) => is.define([part], { ...text, ...changes });

function frequencies(part: is.Part, changes: Partial<is.Text> = {}): number[] {
  const attention = one(part, changes);
  return Array.from({ length: (changes.d ?? text.d) / 2 }, (_, i) => attention.angle(1, 0, i, 0));
}

/** g(m, 0) … g(m, m), read from the pair that turns one radian a position; null where m does not see the token. */
function distances(part: is.Part, m: number): (number | null)[] {
  const { visible, angle } = one(part);
  return Array.from({ length: m + 1 }, (_, n) => (visible(m, n) ? angle(m, n, 0, 0) : null));
}

describe("frequencies", () => {
  it.each<[string, is.Part, Partial<is.Text>, readonly number[]]>([
    ["interpolation", is.interpolation(4), {}, D8.pi_s4],
    ["ntk", is.ntk(4), {}, D8.ntk_s4.v],
    ["dynamic-ntk within T", is.dynamicNtk(2), { prompt: 2048 }, D8.default],
    ["dynamic-ntk", is.dynamicNtk(2), { prompt: 4096 }, D8.dyn_L2048_n4096_f2.v],
    ["dynamic-ntk at 4T", is.dynamicNtk(4), { prompt: 8192 }, D8.dyn_L2048_n8192_f4.v],
    ["ntk-mixed", is.ntkMixed(12, 0.75), {}, D8.ntk_mixed_k12],
    ["yarn", is.yarn(4), {}, D8.yarn_s4_L2048.v],
    ["yarn, not truncated", is.yarn(4, { truncate: false }), {}, D8.yarn_s4_L2048_notrunc.v],
    ["yarn, paper", is.yarn(4, { paper: true }), {}, D8.byparts_paper_s4_L2048],
    ["llama3", is.llama3(4, 1, 4), {}, D8.llama3_f4_L2048],
    ["truncation", is.truncation(), {}, D8.giraffe_trunc_T2048],
    ["power", is.power(0.5), {}, D8["giraffe_power_k0.5"]],
  ])("%s", (_, part, changes, expected) => {
    expect(printed(frequencies(part, changes))).toEqual(expected);
  });

  it("truncation of 64 pairs keeps 41, slows 14 and stops 9", () => {
    const all = frequencies(is.truncation(), { d: 128 });
    const rho = (2 * Math.PI) / (16 * 2048);
    const { kept, slowed, stopped } = D128.giraffe_trunc_T2048;
    expect(all.filter((theta) => theta > rho)).toHaveLength(kept);
    expect(all.filter((theta) => theta === rho)).toHaveLength(slowed);
    expect(all.filter((theta) => theta === 0)).toHaveLength(stopped);
  });

  it.each([
    ["yarn at 4", is.yarn(4), mscale[4]],
    ["yarn at 16", is.yarn(16), mscale[16]],
    ["longrope at 16", is.longrope([], [], 16), longrope_af_L4096[16]],
    ["longrope at 32", is.longrope([], [], 32), longrope_af_L4096[32]],
  ])("attention factor of %s", (_, part, expected) => {
    expect(printed([one(part, { trainedWindow: 4096 }).amplitude])).toEqual([expected]);
  });
});

describe("distances", () => {
  it.each<[string, is.Part, readonly (number | null)[]]>([
    ["self-extend", is.selfExtend(8, 4), VECTORS.selfextend_G4_W8_m20],
    ["self-extend, one further", is.selfExtend(8, 4), VECTORS.selfextend_G4_W8_m21],
    ["self-extend, odd groups", is.selfExtend(8, 3), VECTORS.selfextend_G3_W8_m20],
    ["leaky-rerope", is.leakyRerope(4, 4), VECTORS.leaky_w4_k4_t0_12.toReversed()],
    ["rerope", is.rerope(4), VECTORS.rerope_w4_m8],
    ["dual-chunk, first query of a chunk", is.dualChunk(6, 10), VECTORS.dca_c10_s6_m12],
    ["dual-chunk, last query of a chunk", is.dualChunk(6, 10), VECTORS.dca_c10_s6_m11],
    ["dual-chunk, three chunks", is.dualChunk(6, 10), VECTORS.dca_c10_s6_m17],
    ["streaming sees the slots of its cache", is.streaming(4, 4), VECTORS.streaming_s4_w4_m9],
    ["lm-infinite keeps its sinks at the window", is.lmInfinite(2, 4), VECTORS.lminfinite_s2_w4_m9],
  ])("%s", (_, part, expected) => {
    expect(distances(part, expected.length - 1)).toEqual(expected);
  });

  it("parallel windows begin again, and the task goes on behind one of them", () => {
    const part = one(is.parallel(2), { prompt: 11 }); // two windows of 3 and a task of 5
    const seen = (m: number) => Array.from({ length: 12 }, (_, n) => n).filter((n) => part.visible(m, n));
    expect(seen(2)).toEqual([0, 1, 2]);
    expect(seen(4)).toEqual([3, 4]);
    expect(seen(6)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(seen(11)).toHaveLength(12);
    expect(seen(7).map((n) => part.angle(7, n, 0, 0))).toEqual([4, 3, 2, 4, 3, 2, 1, 0]);
  });

  it("prefix looks ahead at negative distances", () => {
    const part = one(is.prefix(3));
    expect([0, 1, 2, 3].map((n) => part.visible(1, n))).toEqual([true, true, true, false]);
    expect(part.angle(0, 2, 0, 0)).toBe(-2);
  });
});

it("logn", () => {
  const { scale } = one(is.logn, { trainedWindow: 4096 });
  expect(scale(100)).toBe(1);
  expect(printed([scale(8191), scale(16_383)])).toEqual([logn_L4096[8192], logn_L4096[16384]]);
});
