import type { Choice } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { computeRow, emptyRow } from "../../positions/angle-rows.ts";
import type { Asking } from "../state/block-index.ts";

type HeadShape = Pick<ModelConfig, "queryHeads" | "keyHeads" | "headSize">;

/** A chunk in a layer whose queries are known: q, k and v side by side, without rotation, [T, (H + 2K) · D]. */
export interface AskingChunk {
  readonly first: number;
  readonly count: number;
  readonly projected: Float32Array;
}

/** Queries that ask for themselves: rows of q [H, D] without rotation, each `stride` floats behind the one before. */
export interface AskingRows {
  readonly queries: Float32Array;
  readonly stride: number;
  readonly count: number;
  /** The text index of a row's query, which gives its position. */
  query(row: number): number;
  /** The blocks of [0, candidates) are a row's candidates. */
  candidates(row: number): number;
}

/** Returns how many lists of a query head's choice there are: one for all heads, for each key head, or for each query head. */
export function listsOf({ share = "heads" }: Choice, { keyHeads, queryHeads }: HeadShape): number {
  return { heads: 1, group: keyHeads, none: queryHeads }[share];
}

/** Returns the mean of queries [from, to) of a chunk, [H, D]. */
export function meanQuery(
  { projected }: AskingChunk,
  from: number,
  to: number,
  { queryHeads, keyHeads, headSize }: HeadShape,
): Float64Array {
  const stride = (queryHeads + 2 * keyHeads) * headSize;
  const width = queryHeads * headSize;
  const sums = new Float64Array(width);
  let row = from;
  // The loop adds four rows at once, because loading and storing `sums` for every row would cost more than the additions.
  for (; row + 4 <= to; row += 4) {
    const a = row * stride;
    const b = a + stride;
    const c = b + stride;
    const d = c + stride;
    for (let i = 0; i < width; i++)
      sums[i] += projected[a + i] + projected[b + i] + (projected[c + i] + projected[d + i]);
  }
  for (; row < to; row++) for (let i = 0; i < width; i++) sums[i] += projected[row * stride + i];
  for (let i = 0; i < width; i++) sums[i] /= to - from;
  return sums;
}

/**
 * Returns what each list of a choice of blocks is chosen by, for a query [H, D] without rotation at a position: sums over
 * the list's query heads, side by side for its key heads, as the block index has its columns. Bounds are asked by the
 * positive channels of a turned query and by its negative ones, since max(q · least, q · largest) is max(q, 0) · largest +
 * min(q, 0) · least.
 */
export function asksOf(choice: Choice, shape: HeadShape, query: ArrayLike<number>, position: number): Asking[] {
  const { queryHeads, keyHeads, headSize: D } = shape;
  const { table, representative, askers } = choice;
  const lists = listsOf(choice, shape);
  const bounds = representative?.kind === "bounds";
  const width = bounds ? 2 * D : D;
  const group = queryHeads / keyHeads;
  const { cos, sin } = emptyRow(table.inverse.length);
  computeRow(table.inverse, position, { cos, sin });
  const turn = (values: Float64Array) => turnRow(values, cos, sin, table.amplitude ** 2); // keys at position 0 have the amplitude too
  return Array.from({ length: lists }, (_, list) => {
    const heads = Array.from({ length: queryHeads / lists }, (_head, i) => (list * queryHeads) / lists + i);
    const firstKeyHead = Math.floor(heads[0] / group);
    const values = new Float64Array(Math.ceil(heads.length / group) * width);
    for (const head of heads) {
      if (askers && !askers.includes(head)) continue;
      const to = (Math.floor(head / group) - firstKeyHead) * width;
      if (!bounds) for (let i = 0; i < D; i++) values[to + i] += query[head * D + i];
      else {
        const turned = turn(Float64Array.from({ length: D }, (_value, i) => query[head * D + i]));
        for (let i = 0; i < D; i++) values[to + (turned[i] > 0 ? 0 : D) + i] += turned[i];
      }
    }
    // Turning is linear, so a sum of queries is turned once.
    if (!bounds) for (let at = 0; at < values.length; at += D) turn(values.subarray(at, at + D));
    return { column: firstKeyHead * width, values };
  });
}

/** Turns the channels of a head in place, and multiplies those that turn by `factor`. */
function turnRow(values: Float64Array, cos: Float64Array, sin: Float64Array, factor: number): Float64Array {
  const pairs = cos.length;
  for (let i = 0; i < pairs; i++) {
    const [a, b] = [values[i], values[pairs + i]];
    values[i] = (a * cos[i] - b * sin[i]) * factor;
    values[pairs + i] = (b * cos[i] + a * sin[i]) * factor;
  }
  return values;
}
