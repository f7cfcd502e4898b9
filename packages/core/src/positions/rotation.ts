import { AngleRows, emptyRow, product, type AngleRow } from "./angle-rows.ts";
import type { FrequencyTable } from "./frequencies.ts";

/** A position as a pure function of a token's index in the text. Positions may be fractions (Leaky ReRoPE). */
export interface PositionRule {
  /** Equal ids mean equal rules; a backend keeps one rotated copy of the keys per table and rule. */
  readonly id: string;
  at(token: number): number;
}

export const TEXT_POSITION: PositionRule = { id: "text", at: (token) => token };

/** The same position for every token, in tokens; 0 leaves what it rotates as it is. */
export function constantPosition(position: number): PositionRule {
  return { id: String(position), at: () => position };
}

/** A rotation of keys or queries: by a table, at the positions of a rule. */
export interface Rotation {
  readonly id: string;
  readonly table: FrequencyTable;
  readonly rule: PositionRule;
  readonly identity: boolean;
}

/** Keys as they come out of their product. */
export const RAW = "raw";

/** No rotation, and no table either: an empty plan has none. */
export const UNROTATED: Rotation = {
  id: RAW,
  table: { id: RAW, inverse: new Float64Array(0), amplitude: 1 },
  rule: constantPosition(0),
  identity: true,
};

export function rotation(table: FrequencyTable, rule: PositionRule): Rotation {
  // Position 0 turns nothing, whatever the table; only its amplitude is left.
  const still = rule.id === "0";
  const identity = still && table.amplitude === 1;
  return { id: identity ? RAW : still ? `${RAW}×${table.amplitude}` : `${table.id}|${rule.id}`, table, rule, identity };
}

/** Cosines and sines [n, d/2]. */
export interface Angles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  /** d/2 */
  readonly pairs: number;
}

/** Those of tokens, or what is left to turn of keys that are turned by `from`; in float64 and rounded once. */
export function angles(by: Rotation, tokens: Iterable<number>, count: number, from?: Rotation): Angles {
  const pairs = Math.max(by.table.inverse.length, from?.table.inverse.length ?? 0);
  const cos = new Float32Array(count * pairs);
  const sin = new Float32Array(count * pairs);
  const scale = by.table.amplitude / (from?.table.amplitude ?? 1);
  const rowOf = from ? difference(by, from, pairs) : rows(by, pairs);
  let at = 0;
  for (const token of tokens) {
    const row = rowOf(token);
    for (let i = 0; i < pairs; i++, at++) {
      cos[at] = row.cos[i] * scale;
      sin[at] = row.sin[i] * scale;
    }
  }
  return { cos, sin, pairs };
}

/** The rows [row, row + count) of some angles. */
export function anglesFrom({ cos, sin, pairs }: Angles, row: number, count: number): Angles {
  const places = [row * pairs, (row + count) * pairs] as const;
  return { cos: cos.subarray(...places), sin: sin.subarray(...places), pairs };
}

/** Of a token, without the amplitude. */
function rows({ table, rule }: Rotation, pairs: number): (token: number) => AngleRow {
  const inverse = new Float64Array(pairs);
  inverse.set(table.inverse); // none of an identity
  const made = new AngleRows(inverse);
  return (token) => made.at(rule.at(token));
}

function difference(by: Rotation, from: Rotation, pairs: number): (token: number) => AngleRow {
  const [forth, back] = [by, from].map((one) => rows(one, pairs));
  const both = emptyRow(pairs);
  return (token) => product(forth(token), back(token), both, -1);
}

/**
 * Rotates rows [n, D]: pairs (i, i + d/2) of each row's first d channels, by the angles of the row, or by those of a
 * single one; the other channels stay. Rows may be turned in place.
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
