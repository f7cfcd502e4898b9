import { addAngles, AngleRows, emptyRow, type AngleRow } from "./angle-rows.ts";
import type { FrequencyTable } from "./frequencies.ts";

/**
 * A position rule: a pure function that gives each token's rotary position from its index in the text. Positions may be
 * fractions (Leaky ReRoPE).
 */
export interface PositionRule {
  /**
   * Equal ids mean equal rules; a backend keeps one rotated copy of the keys for each pair of frequency table and rule.
   */
  readonly id: string;
  at(token: number): number;
}

/** The position rule of plain RoPE: a token's position is its index in the text. */
export const TEXT_POSITION: PositionRule = { id: "text", at: (token) => token };

/** Makes the rule that puts all tokens at one position; at position 0 all rotary angles are 0. */
export function constantPosition(position: number): PositionRule {
  return { id: String(position), at: () => position };
}

/** A rotation of keys or queries: the frequencies of a table, applied at the positions of a rule. */
export interface Rotation {
  /** Equal ids mean equal rotations. */
  readonly id: string;
  readonly table: FrequencyTable;
  readonly rule: PositionRule;
  /** Whether the rotation changes nothing, because every angle is 0 and the amplitude is 1. */
  readonly identity: boolean;
}

/** The id under which keys without rotation (raw keys) are stored. */
export const RAW = "raw";

/** The rotation that leaves keys raw; its frequency table is empty because no frequency is needed. */
export const UNROTATED: Rotation = {
  id: RAW,
  table: { id: RAW, inverse: new Float64Array(0), amplitude: 1 },
  rule: constantPosition(0),
  identity: true,
};

/** Makes the rotation of a frequency table at a rule's positions; rotations that act alike get the same id. */
export function rotation(table: FrequencyTable, rule: PositionRule): Rotation {
  // At position 0 every angle is 0 whatever the frequencies, so rotations there differ only by their table's amplitude.
  const still = rule.id === "0";
  const identity = still && table.amplitude === 1;
  return { id: identity ? RAW : still ? `${RAW}×${table.amplitude}` : `${table.id}|${rule.id}`, table, rule, identity };
}

/** Cosines and sines [n, d/2] of the rotary angles of n tokens, multiplied by the frequency table's amplitude. */
export interface Angles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  /** The number of rotary pairs, d/2. */
  readonly pairs: number;
}

/**
 * Returns the cosines and sines by which the rotation `to` turns each of `count` tokens, in the order given. With
 * `from` they turn keys that already have the rotation `from` into keys with the rotation `to`, by the difference of
 * the two angles. All is computed in float64 and rounded to float32 once.
 */
export function angles(to: Rotation, tokens: Iterable<number>, count: number, from?: Rotation): Angles {
  const pairs = Math.max(to.table.inverse.length, from?.table.inverse.length ?? 0);
  const cos = new Float32Array(count * pairs);
  const sin = new Float32Array(count * pairs);
  const amplitude = to.table.amplitude / (from?.table.amplitude ?? 1);
  const rowOf = from ? rowsBetween(from, to, pairs) : rowsOf(to, pairs);
  let at = 0;
  for (const token of tokens) {
    const row = rowOf(token);
    for (let i = 0; i < pairs; i++, at++) {
      cos[at] = row.cos[i] * amplitude;
      sin[at] = row.sin[i] * amplitude;
    }
  }
  return { cos, sin, pairs };
}

/** Returns the angles of `count` tokens, the first of which is at row `row`, as a view without copying. */
export function anglesFrom({ cos, sin, pairs }: Angles, row: number, count: number): Angles {
  const places = [row * pairs, (row + count) * pairs] as const;
  return { cos: cos.subarray(...places), sin: sin.subarray(...places), pairs };
}

/**
 * Returns a function from a token to the cosines and sines of a rotation at the token, without the table's amplitude.
 */
function rowsOf({ table, rule }: Rotation, pairs: number): (token: number) => AngleRow {
  const inverse = new Float64Array(pairs);
  // A table with fewer pairs, such as that of UNROTATED, leaves the other frequencies at 0, so their pairs do not turn.
  inverse.set(table.inverse);
  const rows = new AngleRows(inverse);
  return (token) => rows.at(rule.at(token));
}

/**
 * Returns a function from a token to the cosines and sines of the angle of `to` minus the angle of `from`, without
 * amplitudes.
 */
function rowsBetween(from: Rotation, to: Rotation, pairs: number): (token: number) => AngleRow {
  const [rowFrom, rowTo] = [from, to].map((one) => rowsOf(one, pairs));
  const difference = emptyRow(pairs);
  return (token) => addAngles(rowTo(token), rowFrom(token), difference, -1);
}

/**
 * Rotates the head vectors in rows [n, D] and multiplies them by `factor`. Channels i and i + d/2 form rotary pair i <
 * d/2; channels from d on are not rotated. `by` holds the angles of each row, or one row of angles for all rows, or is
 * null for no rotation. `to` may be the same array as `from`.
 */
export function turnRows(from: Float32Array, to: Float32Array, size: number, by: Angles | null, factor = 1): void {
  const { cos, sin, pairs } = by ?? NO_ANGLES;
  const step = cos.length > pairs ? pairs : 0;
  for (let row = 0, angle = 0; row < from.length; row += size, angle += step) {
    for (let i = 0; i < pairs; i++) {
      const a = from[row + i] * factor;
      const b = from[row + pairs + i] * factor;
      to[row + i] = a * cos[angle + i] - b * sin[angle + i];
      to[row + pairs + i] = b * cos[angle + i] + a * sin[angle + i];
    }
    for (let i = row + 2 * pairs; i < row + size; i++) to[i] = from[i] * factor;
  }
}

const NO_ANGLES: Angles = { cos: new Float32Array(0), sin: new Float32Array(0), pairs: 0 };
