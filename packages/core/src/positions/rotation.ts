import { addAngles, AngleRows, emptyRow, type AngleRow } from "./angle-rows.ts";
import type { FrequencyTable } from "./frequencies.ts";

/** The position of a token, as a pure function of its index in the text; a fraction under Leaky ReRoPE. */
export interface PositionRule {
  /** Equal ids mean equal rules; a backend keeps one rotated copy of the keys for each table and rule. */
  readonly id: string;
  at(token: number): number;
}

/** A token's position is its index in the text. */
export const TEXT_POSITION: PositionRule = { id: "text", at: (token) => token };

/** One position for all tokens, in tokens; at position 0 a rotation changes nothing. */
export function constantPosition(position: number): PositionRule {
  return { id: String(position), at: () => position };
}

/** A rotation of keys or queries: the frequencies of a table at the positions of a rule. */
export interface Rotation {
  /** Equal ids mean equal rotations. */
  readonly id: string;
  readonly table: FrequencyTable;
  readonly rule: PositionRule;
  /** The rotation changes nothing: every angle is 0, and the amplitude is 1. */
  readonly identity: boolean;
}

/** The id of keys that are not rotated. */
export const RAW = "raw";

/** The rotation of keys that are not rotated; it needs no frequencies, so its table is empty. */
export const UNROTATED: Rotation = {
  id: RAW,
  table: { id: RAW, inverse: new Float64Array(0), amplitude: 1 },
  rule: constantPosition(0),
  identity: true,
};

export function rotation(table: FrequencyTable, rule: PositionRule): Rotation {
  // All angles at position 0 are 0, so two such rotations differ by the amplitudes of their tables only.
  const still = rule.id === "0";
  const identity = still && table.amplitude === 1;
  return { id: identity ? RAW : still ? `${RAW}×${table.amplitude}` : `${table.id}|${rule.id}`, table, rule, identity };
}

/** Cosines and sines [n, d/2] of n tokens, multiplied by the amplitude. */
export interface Angles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  /** d/2 */
  readonly pairs: number;
}

/**
 * The angles by which the rotation `to` turns each of `count` tokens, in the order given. For keys that the rotation
 * `from` has turned already, they are the differences between the angles of the two rotations, which turn those keys
 * from one to the other. They are computed in float64 and rounded to float32 once.
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

/** The angles of `count` tokens from the token at `row` on, as views of the same memory. */
export function anglesFrom({ cos, sin, pairs }: Angles, row: number, count: number): Angles {
  const places = [row * pairs, (row + count) * pairs] as const;
  return { cos: cos.subarray(...places), sin: sin.subarray(...places), pairs };
}

/** A function from a token to its row under a rotation, the amplitude left out. */
function rowsOf({ table, rule }: Rotation, pairs: number): (token: number) => AngleRow {
  const inverse = new Float64Array(pairs);
  inverse.set(table.inverse); // A shorter table, as that of UNROTATED, leaves zeros, which turn nothing.
  const rows = new AngleRows(inverse);
  return (token) => rows.at(rule.at(token));
}

/** A function from a token to the row of the angles between two rotations, the amplitudes left out. */
function rowsBetween(from: Rotation, to: Rotation, pairs: number): (token: number) => AngleRow {
  const [rowFrom, rowTo] = [from, to].map((one) => rowsOf(one, pairs));
  const difference = emptyRow(pairs);
  return (token) => addAngles(rowTo(token), rowFrom(token), difference, -1);
}

/**
 * Rotates rows [n, D] and multiplies them by `factor`: channels i and i + d/2 of a row are rotary pair i < d/2, and the
 * channels beyond the first d are not rotated. `by` has the angles of each row, or one row of angles for all, or is
 * null where nothing is rotated. `to` may be `from`.
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
