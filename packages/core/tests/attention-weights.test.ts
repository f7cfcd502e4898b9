import { describe, expect, it } from "vitest";
import {
  attentionWeights,
  constantPosition,
  EVERYTHING,
  makeTable,
  TEXT_POSITION,
  type AttentionPlan,
  type LayerView,
  type Segment,
} from "@longctx/core";
import { largestDifference, randomNumbers, tinyConfig } from "./tiny-model.ts";

const [H, K, D, T] = [4, 2, 6, 5];
const config = tinyConfig({ queryHeads: H, keyHeads: K, headSize: D });
const random = randomNumbers(3);
const queries = Float32Array.from({ length: T * H * D }, () => random() - 0.5);
const keys = Float32Array.from({ length: T * K * D }, () => random() - 0.5);
const view: LayerView = {
  layer: 0,
  first: 0,
  count: T,
  queries: () => queries,
  keys: ({ from, to }) => keys.slice(from * K * D, to * K * D),
  values: () => new Float32Array(0),
};
const text: Segment = {
  tokens: EVERYTHING,
  table: makeTable(Float64Array.of(1, 0.3)),
  queryPosition: TEXT_POSITION,
  keyPosition: TEXT_POSITION,
  band: EVERYTHING,
};

/** Re(Σ q_j · conj(k_j) · e^(i t θ_j)) over the pairs of two complex channels, times `turning`, and the plain product of the rest. */
function score(m: number, n: number, h: number, distance: number, [first, second] = [1, 0.3], turning = 1): number {
  const q = queries.subarray((m * H + h) * D, (m * H + h + 1) * D);
  const kh = h < 2 ? 0 : 1;
  const k = keys.subarray((n * K + kh) * D, (n * K + kh + 1) * D);
  const pair = (i: number, theta: number) => {
    const [real, imaginary] = [q[i] * k[i] + q[i + 2] * k[i + 2], q[i + 2] * k[i] - q[i] * k[i + 2]];
    return real * Math.cos(distance * theta) - imaginary * Math.sin(distance * theta);
  };
  return turning * (pair(0, first) + pair(1, second)) + q[4] * k[4] + q[5] * k[5];
}

/** Probabilities [H, T, T] from a score for each pair that is seen. */
function softmaxOf(scoreOf: (m: number, n: number, h: number) => number | null): number[] {
  const rows = Array.from({ length: H * T }, (_, row) => {
    const powers = Array.from({ length: T }, (_score, n) => {
      const value = scoreOf(row % T, n, Math.floor(row / T));
      return value === null ? 0 : Math.exp(value / Math.sqrt(D));
    });
    const sum = powers.reduce((a, b) => a + b, 0) || 1;
    return powers.map((power) => power / sum);
  });
  return rows.flat();
}

/** The largest difference of a weight under the plan from the softmax of those scores. */
function error(plan: AttentionPlan, scoreOf: (m: number, n: number, h: number) => number | null): number {
  return largestDifference(attentionWeights(plan, view, config), softmaxOf(scoreOf));
}

describe("attentionWeights", () => {
  it("is the softmax of rotated scores; four of the six channels turn", () => {
    expect(error({ segments: [text] }, (m, n, h) => (n <= m ? score(m, n, h, m - n) : null))).toBeLessThan(1e-6);
  });

  it("grows with the square of the amplitude, on the channels that turn", () => {
    expect(
      error({ segments: [{ ...text, table: makeTable(Float64Array.of(1, 0.3), 2) }] }, (m, n, h) => {
        if (n > m) return null;
        const still = score(m, n, h, 0, [0, 0], 0);
        return 4 * (score(m, n, h, m - n) - still) + still;
      }),
    ).toBeLessThan(1e-6);
  });

  it("puts all segments under one softmax, each with its own table and positions", () => {
    const far: Segment = {
      ...text,
      table: makeTable(Float64Array.of(0.5, 0.2)),
      band: { from: 2, to: Infinity },
      queryPosition: constantPosition(7),
      keyPosition: constantPosition(4.5),
    };
    const plan = { segments: [{ ...text, band: { from: 0, to: 2 } }, far] };
    expect(
      error(plan, (m, n, h) => (n > m ? null : m - n < 2 ? score(m, n, h, m - n) : score(m, n, h, 2.5, [0.5, 0.2]))),
    ).toBeLessThan(1e-6);
  });

  it("sees lists, ranges and query ranges as the plan says", () => {
    const plan = {
      segments: [
        { ...text, tokens: Int32Array.of(0, 3) },
        { ...text, tokens: { from: 1, to: 2 }, queries: { from: 2, to: 4 } },
      ],
    };
    expect(
      error(plan, (m, n, h) =>
        n <= m && (n === 0 || n === 3 || (n === 1 && m >= 2 && m < 4)) ? score(m, n, h, m - n) : null,
      ),
    ).toBeLessThan(1e-6);
  });

  it("multiplies the scores by the temperature of the query", () => {
    const plan = { segments: [text], temperature: { id: "half", at: (m: number) => 1 + m / 2 } };
    expect(error(plan, (m, n, h) => (n <= m ? (1 + m / 2) * score(m, n, h, m - n) : null))).toBeLessThan(1e-6);
  });

  it("caps scores softly, tempered ones", () => {
    const plan = { segments: [text], temperature: { id: "half", at: (m: number) => 1 + m / 2 } };
    const cap = 0.1;
    const capped = softmaxOf((m, n, h) => {
      if (n > m) return null;
      const tempered = ((1 + m / 2) * score(m, n, h, m - n)) / Math.sqrt(D);
      return cap * Math.tanh(tempered / cap) * Math.sqrt(D);
    });
    const weights = attentionWeights(plan, view, { ...config, attentionSoftCap: cap });
    expect(largestDifference(weights, capped)).toBeLessThan(1e-6);
    expect(largestDifference(attentionWeights(plan, view, config), capped)).toBeGreaterThan(0.01);
  });

  it("is all zeros for a query that sees nothing", () => {
    const weights = attentionWeights({ segments: [{ ...text, tokens: { from: 3, to: 9 } }] }, view, config);
    expect(weights.subarray(0, 3 * T).every((weight) => weight === 0)).toBe(true);
    expect(weights[3 * T + 3]).toBe(1);
    expect(attentionWeights({ segments: [] }, view, config).every((weight) => weight === 0)).toBe(true);
  });

  it("refuses plans that show a token twice", () => {
    expect(() => attentionWeights({ segments: [text, { ...text, tokens: Int32Array.of(2) }] }, view, config)).toThrow(
      "segments 0 and 1 both show token 2 to query 2",
    );
  });
});
