import type { SharedScratch } from "../wasm/kernel-threads.ts";
import { jobBytes, type PartFields } from "./part-table.ts";

/** Bytes of scratch memory for the i16 weights of a block of `mixCompact`, rounded up. */
const WEIGHTS = 544;
/** Keys that kernels/src/turned.ts turns at once. */
const TURNED_KEYS = 4;
/** Rows of scores have a multiple of so many floats, since the softmax takes four vectors of four at a time. */
export const STRIDE = 16;

const PLACES = [
  "job",
  "queries",
  "codes",
  "factors",
  "weights",
  "outputs",
  "sums",
  "maxima",
  "scores",
  "turned",
] as const;

/** How many parts and rotations there are, and of what sizes. */
export interface PartSizes {
  readonly parts: number;
  readonly rotations: number;
  readonly queryHeads: number;
  /** Query heads of a key head. */
  readonly group: number;
  readonly headSize: number;
  /** The most slots of a part. */
  readonly longest: number;
}

/** Addresses in the scratch memory, and the floats from one row of scores to the next. */
export type Layout = Readonly<Record<(typeof PLACES)[number] | "stride", number>>;

/** Lays out the scratch memory of a token's parts, which grows where it has to. */
export function layOutParts(
  scratch: SharedScratch,
  { parts, rotations, queryHeads, group, headSize, longest }: PartSizes,
): Layout {
  const stride = Math.ceil((longest + 3) / STRIDE) * STRIDE;
  let bytes = 0;
  const take = (size: number): number => {
    const at = bytes;
    bytes += Math.ceil(size / 64) * 64;
    return at;
  };
  const layout = {
    job: take(jobBytes(parts)),
    queries: take(4 * (rotations + 1) * queryHeads * headSize),
    codes: take(2 * rotations * queryHeads * headSize),
    factors: take(4 * rotations * queryHeads),
    weights: take(WEIGHTS * parts),
    outputs: take(4 * parts * group * headSize),
    sums: take(4 * parts * group),
    maxima: take(4 * parts * group),
    scores: take(4 * parts * group * stride + 64),
    turned: take(4 * parts * (TURNED_KEYS + group) * headSize),
  };
  const address = scratch.take(bytes);
  for (const name of PLACES) layout[name] += address;
  return { ...layout, stride };
}

/** Sets the addresses at which a part of single-token attention keeps its scores and writes the results of its query heads, the first of which is `firstHead`. */
export function placePart(
  part: PartFields,
  layout: Layout,
  number: number,
  group: number,
  headSize: number,
  firstHead: number,
): void {
  const head = number * group + firstHead;
  part.scores = layout.scores + 4 * number * group * layout.stride;
  part.stride = layout.stride;
  part.weights = layout.weights + number * WEIGHTS;
  part.outputs = layout.outputs + 4 * head * headSize;
  part.sums = layout.sums + 4 * head;
  part.maxima = layout.maxima + 4 * head;
  part.turned = layout.turned + 4 * number * (TURNED_KEYS + group) * headSize;
}
