import type { Choice } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { angles, rotation, type Angles } from "../../positions/rotation.ts";
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
  return Array.from({ length: keyHeads }, (_, keyHead) => {
    const asked = new Float32Array(count * lists * width);
    for (let i = 0; i < group; i++) {
      const head = keyHead * group + i;
      if (askers && !askers.includes(head)) continue;
      const factors = scales && cosineFactors(queries, stride, count, head, D, by, scales[head]);
      for (let row = 0; row < count; row++) {
        const to = (row * lists + (i % lists)) * width;
        addTurned(queries, row * stride + head * D, asked, to, D, by, row, factors ? factors[row] : 1, bounds);
      }
    }
    return asked;
  });
}

/** Adds a turned query times a factor to a row; where bounds are asked, negative channels go behind the D positive ones. */
function addTurned(
  queries: Float32Array,
  from: number,
  asked: Float32Array,
  to: number,
  size: number,
  by: Angles | null,
  row: number,
  factor: number,
  bounds: boolean,
): void {
  const { cos, sin, pairs } = by ?? NO_ANGLES;
  const angle = row * pairs;
  const add = (i: number, value: number) => {
    asked[to + (bounds && value < 0 ? size : 0) + i] += value;
  };
  for (let i = 0; i < pairs; i++) {
    const a = queries[from + i] * factor;
    const b = queries[from + pairs + i] * factor;
    add(i, a * cos[angle + i] - b * sin[angle + i]);
    add(pairs + i, b * cos[angle + i] + a * sin[angle + i]);
  }
  for (let i = 2 * pairs; i < size; i++) add(i, queries[from + i] * factor);
}

const NO_ANGLES: Angles = { cos: new Float32Array(0), sin: new Float32Array(0), pairs: 0 };

/** What makes cosines of the products of each row's turned query: the head's scale over the norm. */
function cosineFactors(
  queries: Float32Array,
  stride: number,
  count: number,
  head: number,
  size: number,
  by: Angles | null,
  scale: number,
): Float32Array {
  const turned = new Float32Array(size);
  return Float32Array.from({ length: count }, (_, row) => {
    turned.fill(0);
    addTurned(queries, row * stride + head * size, turned, 0, size, by, row, 1, false);
    return scale / Math.max(Math.sqrt(turned.reduce((sum, value) => sum + value * value, 0)), LEAST_NORM);
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
