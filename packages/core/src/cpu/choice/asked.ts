import type { Choice } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { angles, rotation, turnRows, type Angles } from "../../positions/rotation.ts";
import type { AskingRows } from "./asking.ts";

/** Norms are at least this, as the definition of cosines says. */
const LEAST_NORM = 1e-6;

/**
 * Returns what rows of queries ask the keys of each key head, or what represents blocks in it: [K] of [rows, lists, W], with
 * a list for each query head of the key head where none share, else one. Queries are turned, and scaled where scores are
 * cosines; those that share a list are summed. Bounds (W = 2D) are asked by positive and negative channels apart.
 */
export function askedBy(
  choice: Choice,
  { queryHeads, keyHeads, headSize: D }: ModelConfig,
  layer: number,
  { queries, stride, count, query }: AskingRows,
): Float32Array[] {
  const group = queryHeads / keyHeads;
  const { share = "heads", representative, size, askers } = choice;
  const bounds = size > 1 && representative?.kind === "bounds";
  const lists = share === "none" ? group : 1;
  const width = bounds ? 2 * D : D;
  const scales = choice.scales?.[layer];
  const by = turnsOf(choice, count, query);
  const rows = new Float32Array(count * D);
  return Array.from({ length: keyHeads }, (_, keyHead) => {
    const asked = new Float32Array(count * lists * width);
    for (let i = 0; i < group; i++) {
      const head = keyHead * group + i;
      if (askers && !askers.includes(head)) continue;
      for (let row = 0; row < count; row++) {
        const from = row * stride + head * D;
        rows.set(queries.subarray(from, from + D), row * D);
      }
      turnRows(rows, rows, D, by);
      if (scales) scaleRows(rows, D, scales[head]);
      for (let row = 0; row < count; row++) {
        const to = (row * lists + (i % lists)) * width;
        for (let j = 0; j < D; j++) {
          const value = rows[row * D + j];
          asked[to + (bounds && value < 0 ? D : 0) + j] += value;
        }
      }
    }
    return asked;
  });
}

/** The angles of the rows' positions; null where nothing is turned. */
function turnsOf({ table, queryPosition, size }: Choice, count: number, query: (row: number) => number): Angles | null {
  const by = rotation(table, queryPosition);
  if (by.identity) return null;
  const made = angles(by, Array.from({ length: count }, (_, row) => query(row)), count); // prettier-ignore
  // What represents blocks is made from keys without the table's amplitude, which turned keys have.
  if (size > 1 && table.amplitude !== 1)
    for (const values of [made.cos, made.sin]) for (let i = 0; i < values.length; i++) values[i] *= table.amplitude;
  return made;
}

function scaleRows(rows: Float32Array, size: number, scale: number): void {
  for (let at = 0; at < rows.length; at += size) {
    let sum = 0;
    for (let i = at; i < at + size; i++) sum += rows[i] * rows[i];
    const factor = scale / Math.max(Math.sqrt(sum), LEAST_NORM);
    for (let i = at; i < at + size; i++) rows[i] *= factor;
  }
}
