import { mixCompact, scoreCompact } from "./compact";
import { exponential } from "./exponential";
import { attendUnit, Unit } from "./lists";
import { mix } from "./mix";
import { score } from "./score";
import { softmax } from "./softmax";
import { scoreTurned } from "./turned";

/**
 * Attention of one query token over keys and values in place, spread over threads: each part is some slots of one key
 * head with a softmax of its own, and the parts of a head are joined by their maxima and sums. The query heads that share
 * a key head go together, so that every key and value is read from memory once. Sizes are in floats, D a multiple of 4.
 */

/** Some slots of one key head. */
@unmanaged
class Part {
  /** f32 [heads, D], or i16 with f32 `factors` [heads] where keys have scales and no `blocks`. */
  queries: usize;
  factors: usize;
  /** f32 [count, D], or i8 with f32 scales [count]; 0 where there are none. */
  keys: usize;
  keyScales: usize;
  /** The same, but codes and scales begin with slot 0 and the part with `slot`. */
  values: usize;
  valueScales: usize;
  slot: i32;
  count: i32;
  /** Scratch: f32 [heads, stride]; and i16 for `mixCompact`. */
  scores: usize;
  stride: i32;
  weights: usize;
  /** f32 [heads, D], [heads], [heads]. */
  outputs: usize;
  sums: usize;
  maxima: usize;
  /** What turns the queries and keys, see turned.ts, and scratch for it; 0 where they are turned already. */
  blocks: usize;
  turned: usize;
  /** A unit of lists.ts for each head where heads have lists of their own, and not `count` slots; else 0. */
  units: usize;
  /**
   * A part computes query heads [firstHead, firstHead + heads) of its key head; `queries`, `outputs`, `sums` and `maxima`
   * are the addresses of query head `firstHead`.
   */
  heads: i32;
  firstHead: i32;
}

@unmanaged
export class Attention {
  parts: usize;
  /** Query heads of a key head. */
  heads: i32;
  size: i32;
  scale: f32;
  /** d/2, and the keys that are turned as one. */
  pairs: i32;
  block: i32;
}

/** Joins the parts of each key head, `each` that follow one another, into `output` [K · heads, D]. */
export function joinParts(job: Attention, count: i32, each: i32, output: usize): void {
  for (let first = 0; first < count; first += each) {
    for (let head = 0; head < job.heads; head++) {
      join(job, first, each, head, output);
      output += 4 * job.size;
    }
  }
}

export function attentionPart(address: usize, index: i32): void {
  const job = changetype<Attention>(address);
  const part = changetype<Part>(job.parts + index * offsetof<Part>());
  const heads = part.heads;
  const size = job.size;
  if (part.units) {
    for (let head = 0; head < heads; head++)
      attendUnit(changetype<Unit>(part.units + head * offsetof<Unit>()), part.scores, part.turned, size, job.pairs);
    return;
  }
  if (heads == 0) return; // it fills up the parts of a key head
  memory.fill(part.outputs, 0, 4 * heads * size);
  scorePart(job, part);
  softmax(part.scores, part.sums, part.maxima, heads, part.count, part.stride);
  if (part.valueScales)
    mixCompact(part.scores, part.weights, part.values, part.valueScales, part.slot, part.outputs, heads, part.count, part.stride, size);
  else mix(part.scores, part.values, part.outputs, heads, part.count, part.stride, size);
}

/** Computes the scores of a part alone, for a choice of tokens. */
export function scoresOfPart(address: usize, index: i32): void {
  const job = changetype<Attention>(address);
  scorePart(job, changetype<Part>(job.parts + index * offsetof<Part>()));
}

function scorePart(job: Attention, part: Part): void {
  const heads = part.heads;
  const size = job.size;
  if (part.blocks) {
    if (part.keyScales)
      scoreTurned<i8>(part.queries, part.keys, part.keyScales, part.blocks, job.block, part.turned, part.scores, heads, part.count, part.stride, size, job.pairs, job.scale);
    else scoreTurned<f32>(part.queries, part.keys, part.keyScales, part.blocks, job.block, part.turned, part.scores, heads, part.count, part.stride, size, job.pairs, job.scale);
  } else if (part.keyScales)
    scoreCompact(part.queries, part.factors, part.keys, part.keyScales, part.scores, heads, part.count, part.stride, size, job.scale);
  else score(part.queries, part.keys, part.scores, heads, part.count, part.stride, size, job.scale);
}

/** Σ e^(max_p − max) · output_p / Σ e^(max_p − max) · sum_p for one head over the parts that are for it. */
function join(job: Attention, first: i32, each: i32, head: i32, output: usize): void {
  const bytes: usize = 4 * job.size;
  let largest: f32 = -Infinity;
  for (let i = first; i < first + each; i++) {
    const part = partOf(job, i);
    const own = head - part.firstHead;
    if (<u32>own < <u32>part.heads) largest = max(largest, load<f32>(part.maxima + 4 * own));
  }
  let sum: f32 = 0;
  memory.fill(output, 0, bytes);
  for (let i = first; i < first + each; i++) {
    const part = partOf(job, i);
    const own = head - part.firstHead;
    if (<u32>own >= <u32>part.heads) continue;
    const factor = exponential(f32x4.splat(load<f32>(part.maxima + 4 * own) - largest));
    sum += f32x4.extract_lane(factor, 0) * load<f32>(part.sums + 4 * own);
    const from = part.outputs + own * bytes;
    for (let j: usize = 0; j < bytes; j += 16)
      v128.store(output + j, f32x4.add(v128.load(output + j), f32x4.mul(v128.load(from + j), factor)));
  }
  const inverse = f32x4.splat(sum > 0 ? 1 / sum : 0); // a head that sees no token
  for (let j: usize = 0; j < bytes; j += 16) v128.store(output + j, f32x4.mul(v128.load(output + j), inverse));
}

// @ts-ignore: decorator
@inline
function partOf(job: Attention, index: i32): Part {
  return changetype<Part>(job.parts + index * offsetof<Part>());
}
