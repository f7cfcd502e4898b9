import { constantPosition, type FrequencyTable, type PositionRule } from "./plan.ts";

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
}

/** Those of tokens, in float64 and rounded once. */
export function angles(by: Rotation, tokens: Iterable<number>, count: number, from?: Rotation): Angles {
  const { inverse, amplitude } = by.table;
  const pairs = Math.max(inverse.length, from?.table.inverse.length ?? 0);
  const cos = new Float32Array(count * pairs);
  const sin = new Float32Array(count * pairs);
  const scale = amplitude / (from?.table.amplitude ?? 1);
  let row = 0;
  for (const token of tokens) {
    const position = by.rule.at(token);
    const before = from?.rule.at(token) ?? 0;
    for (let i = 0; i < pairs; i++) {
      const angle = position * (inverse[i] ?? 0) - before * (from?.table.inverse[i] ?? 0);
      cos[row * pairs + i] = Math.cos(angle) * scale;
      sin[row * pairs + i] = Math.sin(angle) * scale;
    }
    row++;
  }
  return { cos, sin };
}
