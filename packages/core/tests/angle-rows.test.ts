import { describe, expect, it } from "vitest";
import { makeTable, TEXT_POSITION, type PositionRule } from "@longctx/core";
import { defaultFrequencies } from "@longctx/rope-types";
import { AngleRows } from "../src/positions/angle-rows.ts";
import { angles, rotation, turnRows, UNROTATED, type Rotation } from "../src/positions/rotation.ts";
import { randomNumbers } from "./tiny-model.ts";

const THETA = defaultFrequencies(100_000, 64);
const FIRST = [0, 5, 8_100, 999_900];

/**
 * The largest difference of a row from Math.cos and Math.sin of position · θ_i, over the difference that `allowed` gives
 * for the largest angle of pair i: the product of a position and θ_i is rounded in proportion to the angle.
 */
function worst(inverse: Float64Array, positions: readonly number[], allowed: (angle: number) => number): number {
  const rows = new AngleRows(inverse);
  const reach = Math.max(...positions.map(Math.abs));
  let largest = 0;
  for (const position of positions) {
    const { cos, sin } = rows.at(position);
    for (let i = 0; i < inverse.length; i++) {
      const angle = position * inverse[i];
      const off = Math.max(Math.abs(cos[i] - Math.cos(angle)), Math.abs(sin[i] - Math.sin(angle)));
      const most = allowed(reach * inverse[i]);
      if (!(off <= largest * most)) largest = off / most;
    }
  }
  return largest;
}

describe("rows of angles", () => {
  it("lose nothing on the way to position 1,000,000: 1e-15 where products of positions and frequencies are exact", () => {
    const dyadic = THETA.map((theta) => Math.round(theta * 2 ** 28) / 2 ** 28);
    for (const first of FIRST) {
      const positions = Array.from({ length: 300 }, (_, i) => first + i);
      expect(worst(dyadic, positions, () => 1e-15)).toBeLessThan(1);
    }
  });

  const RULES: readonly (readonly [string, (n: number) => number])[] = [
    ["n", (n) => n],
    ["−n", (n) => -n],
    ["⌊n/4⌋ + 9", (n) => Math.floor(n / 4) + 9],
    ["n mod 100", (n) => n % 100],
    ["7", () => 7],
    ["n/8", (n) => n / 8],
  ];
  it.each(RULES)("are as near as the products themselves: %s", (_, rule) => {
    for (const first of FIRST) {
      const positions = Array.from({ length: 500 }, (__, i) => rule(first + i));
      expect(worst(THETA, positions, (angle) => 1e-15 + 2 ** -52 * Math.abs(angle))).toBeLessThan(1);
    }
  });

  it("take positions in fractions to 2⁻³², and any order", () => {
    const random = randomNumbers(4);
    const scattered = Array.from({ length: 2_000 }, () => Math.floor(random() * 1e6));
    expect(worst(THETA, scattered, (angle) => 1e-15 + 2 ** -51 * Math.abs(angle))).toBeLessThan(1);
    const thirds = Array.from({ length: 2_000 }, (_, n) => n / 3.5);
    expect(worst(THETA, thirds, () => 2 ** -32)).toBeLessThan(1);
  });
});

describe("angles between two rotations", () => {
  const rule = (id: string, at: (n: number) => number): PositionRule => ({ id, at });
  const text = rotation(makeTable(THETA, 1.2), TEXT_POSITION);
  const ntk = rotation(makeTable(THETA.map((theta, i) => theta / (1 + i / 9))), TEXT_POSITION);
  const grouped = rotation(
    makeTable(THETA),
    rule("⌊n/4⌋", (n) => Math.floor(n / 4)),
  );
  const still = rotation(
    makeTable(THETA, 0.9),
    rule("0", () => 0),
  ); // Position 0 leaves the amplitude alone.
  const PAIRS: readonly (readonly [string, Rotation, Rotation | undefined])[] = [
    ["from raw keys", text, undefined],
    ["the same", text, UNROTATED],
    ["back to raw keys", UNROTATED, text],
    ["another table", ntk, text],
    ["another table and rule", grouped, text],
    ["from an amplitude", text, still],
    ["to an amplitude", still, ntk],
  ];

  it.each(PAIRS)("%s", (_, by, from) => {
    const tokens = [...Array(200).keys()].map((n) => (n < 90 ? n : 99_000 + n));
    const { cos, sin, pairs } = angles(by, tokens, tokens.length, from);
    expect(pairs).toBe(32);
    const scale = by.table.amplitude / (from?.table.amplitude ?? 1);
    tokens.forEach((token, row) => {
      for (let i = 0; i < pairs; i++) {
        const to = by.rule.at(token) * (by.table.inverse[i] ?? 0);
        const angle = to - (from ? from.rule.at(token) * (from.table.inverse[i] ?? 0) : 0);
        expect(Math.abs(cos[row * pairs + i] - scale * Math.cos(angle))).toBeLessThan(1e-7);
        expect(Math.abs(sin[row * pairs + i] - scale * Math.sin(angle))).toBeLessThan(1e-7);
      }
    });
  });

  it("turn rows there and back, and leave channels beyond the rotary ones", () => {
    const random = randomNumbers(2);
    const rows = Float32Array.from({ length: 5 * 70 }, () => 2 * random() - 1);
    const [there, back] = [new Float32Array(rows.length), new Float32Array(rows.length)];
    turnRows(rows, there, 70, angles(text, [3, 4, 5, 6, 7], 5));
    turnRows(there, back, 70, angles(UNROTATED, [3, 4, 5, 6, 7], 5, text));
    back.forEach((value, i) => expect(Math.abs(value - rows[i])).toBeLessThan(1e-6));
    for (let row = 0; row < 5; row++) {
      expect(there.subarray(70 * row + 64, 70 * row + 70)).toEqual(rows.subarray(70 * row + 64, 70 * row + 70));
      const [a, b] = [rows[70 * row + 1], rows[70 * row + 33]];
      const angle = (3 + row) * THETA[1];
      expect(there[70 * row + 1]).toBeCloseTo(1.2 * (a * Math.cos(angle) - b * Math.sin(angle)), 6);
      expect(there[70 * row + 33]).toBeCloseTo(1.2 * (b * Math.cos(angle) + a * Math.sin(angle)), 6);
    }
    const one = rows.slice();
    turnRows(one, one, 70, angles(text, [9], 1), 2); // In place, with one row of angles for all rows.
    expect(one[0]).toBeCloseTo(2.4 * (rows[0] * Math.cos(9) - rows[32] * Math.sin(9)), 6);
    expect(one[281]).toBeCloseTo(2.4 * (rows[281] * Math.cos(9 * THETA[1]) - rows[313] * Math.sin(9 * THETA[1])), 6);
  });
});
