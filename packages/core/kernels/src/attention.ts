import { mixCompact, scoreCompact } from "./compact";
import { exponential } from "./exponential";
import { mix } from "./mix";
import { score } from "./score";
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
  const heads = job.heads;
  const size = job.size;
  memory.fill(part.outputs, 0, 4 * heads * size);
  if (part.blocks) {
    if (part.keyScales)
      scoreTurned<i8>(part.queries, part.keys, part.keyScales, part.blocks, job.block, part.turned, part.scores, heads, part.count, part.stride, size, job.pairs, job.scale);
    else scoreTurned<f32>(part.queries, part.keys, part.keyScales, part.blocks, job.block, part.turned, part.scores, heads, part.count, part.stride, size, job.pairs, job.scale);
  } else if (part.keyScales)
    scoreCompact(part.queries, part.factors, part.keys, part.keyScales, part.scores, heads, part.count, part.stride, size, job.scale);
  else score(part.queries, part.keys, part.scores, heads, part.count, part.stride, size, job.scale);
  softmax(part.scores, part.sums, part.maxima, heads, part.count, part.stride);
  if (part.valueScales)
    mixCompact(part.scores, part.weights, part.values, part.valueScales, part.slot, part.outputs, heads, part.count, part.stride, size);
  else mix(part.scores, part.values, part.outputs, heads, part.count, part.stride, size);
}

/** Σ e^(max_p − max) · output_p / Σ e^(max_p − max) · sum_p for one head over its parts. */
function join(job: Attention, first: i32, each: i32, head: i32, output: usize): void {
  const bytes: usize = 4 * job.size;
  let largest: f32 = -Infinity;
  for (let i = first; i < first + each; i++) largest = max(largest, load<f32>(partOf(job, i).maxima + 4 * head));
  let sum: f32 = 0;
  memory.fill(output, 0, bytes);
  for (let i = first; i < first + each; i++) {
    const part = partOf(job, i);
    const factor = exponential(f32x4.splat(load<f32>(part.maxima + 4 * head) - largest));
    sum += f32x4.extract_lane(factor, 0) * load<f32>(part.sums + 4 * head);
    const from = part.outputs + head * bytes;
    for (let j: usize = 0; j < bytes; j += 16)
      v128.store(output + j, f32x4.add(v128.load(output + j), f32x4.mul(v128.load(from + j), factor)));
  }
  const inverse = f32x4.splat(1 / sum);
  for (let j: usize = 0; j < bytes; j += 16) v128.store(output + j, f32x4.mul(v128.load(output + j), inverse));
}

// @ts-ignore: decorator
@inline
function partOf(job: Attention, index: i32): Part {
  return changetype<Part>(job.parts + index * offsetof<Part>());
}

/** Each row of scores becomes a distribution over its first `count`, but for a factor: its sum and maximum are kept. */
function softmax(scores: usize, sums: usize, maxima: usize, heads: i32, count: i32, stride: i32): void {
  for (let head = 0; head < heads; head++) {
    const row = scores + 4 * <usize>(head * stride);
    // The row is filled up with what adds nothing: four vectors at a time share the constants of the exponential.
    for (let i = count; i & 15; i++) store<f32>(row + 4 * i, -Infinity);
    let largest = v128.load(row);
    for (let i = 4; i < count; i += 4) largest = f32x4.pmax(largest, v128.load(row + 4 * i));
    largest = f32x4.pmax(largest, v128.shuffle<f32>(largest, largest, 2, 3, 0, 1));
    largest = f32x4.pmax(largest, v128.shuffle<f32>(largest, largest, 1, 0, 3, 2));
    store<f32>(maxima + 4 * head, f32x4.extract_lane(largest, 0));
    let sum = f32x4.splat(0);
    for (let at = row, end = row + 4 * <usize>count; at < end; at += 64) {
      const a = exponential(f32x4.sub(v128.load(at), largest));
      const b = exponential(f32x4.sub(v128.load(at, 16), largest));
      const c = exponential(f32x4.sub(v128.load(at, 32), largest));
      const d = exponential(f32x4.sub(v128.load(at, 48), largest));
      v128.store(at, a);
      v128.store(at, b, 16);
      v128.store(at, c, 32);
      v128.store(at, d, 48);
      sum = f32x4.add(sum, f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
    }
    store<f32>(
      sums + 4 * head,
      f32x4.extract_lane(sum, 0) + f32x4.extract_lane(sum, 1) + f32x4.extract_lane(sum, 2) + f32x4.extract_lane(sum, 3),
    );
  }
}
