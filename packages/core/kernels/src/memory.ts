import { exponential } from "./exponential";
import { multiplyAdd } from "./matrix";

/**
 * Reads and writes a compressive memory: M f32 [D, D] and z f32 [D] of each key head (Munkhdalai, Faruqui, Gopal 2024,
 * arXiv:2404.07143). σ(x) = ELU(x) + 1 = exp(min(x, 0)) + max(x, 0). Sizes are in floats.
 */

/** Rows that are multiplied with M at once. */
const ROWS: i32 = 4;

/**
 * Mixes what queries read into `attended` [rows, heads, D], in place: g · σ(q) M / (σ(q) · z) + (1 − g) · attended with
 * the gate g f32 [heads] of the query head; a denominator of 0 reads zeros. The query of a row and head is at
 * queries + row · stride + head · D. `group` query heads share a key head. `scratch` has room for f32 [4, D].
 */
export function readMemory(
  queries: usize,
  stride: i32,
  gates: usize,
  matrix: usize,
  sums: usize,
  attended: usize,
  scratch: usize,
  rows: i32,
  heads: i32,
  group: i32,
  size: i32,
): void {
  const bytes: usize = 4 * <usize>size;
  const apart: usize = bytes * heads;
  for (let head = 0; head < heads; head++) {
    const gate = load<f32>(gates + 4 * head);
    const keyHead: usize = head / group;
    const z = sums + keyHead * bytes;
    const m = matrix + keyHead * bytes * size;
    let query = queries + head * bytes;
    let output = attended + head * bytes;
    for (let row = 0; row < rows; row += ROWS) {
      const some = min(ROWS, rows - row);
      for (let i = 0; i < some; i++) {
        const features = scratch + i * bytes;
        feature(query, features, size);
        scale(features, quotient(gate, dot(features, z, size)), size);
        scale(output + i * apart, 1 - gate, size);
        query += 4 * stride;
      }
      multiplyAdd(scratch, bytes, 4, m, bytes, output, apart, some, size, size);
      output += some * apart;
    }
  }
}

/**
 * Adds what `count` tokens of a segment write into one key head's memory: σ(K)ᵀ V to `matrixSum` and Σ σ(K) to `sumsSum`,
 * with `delta` σ(K)ᵀ (V − σ(K) M / (σ(K) z)), M and z being the memory before the segment. Keys and values f32 [count, D]
 * are written over. `scratch` has room for f32 [4, D].
 */
export function writeMemory(
  keys: usize,
  values: usize,
  matrix: usize,
  sums: usize,
  matrixSum: usize,
  sumsSum: usize,
  scratch: usize,
  count: i32,
  size: i32,
  delta: bool,
): void {
  const bytes: usize = 4 * <usize>size;
  for (let row = 0; row < count; row++) {
    const key = keys + row * bytes;
    feature(key, key, size);
    for (let i: usize = 0; i < bytes; i += 4) store<f32>(sumsSum + i, load<f32>(sumsSum + i) + load<f32>(key + i));
  }
  if (delta) {
    for (let row = 0; row < count; row += ROWS) {
      const some = min(ROWS, count - row);
      for (let i = 0; i < some; i++) {
        const features = scratch + i * bytes;
        const key = keys + (row + i) * bytes;
        memory.copy(features, key, bytes);
        scale(features, -quotient(1, dot(key, sums, size)), size);
      }
      multiplyAdd(scratch, bytes, 4, matrix, bytes, values + row * bytes, bytes, some, size, size);
    }
  }
  multiplyAdd(keys, 4, bytes, values, bytes, matrixSum, bytes, size, size, count);
}

/** σ of `size` floats. */
function feature(from: usize, to: usize, size: i32): void {
  let i: usize = 0;
  for (const whole: usize = 4 * <usize>(size & ~3); i < whole; i += 16) v128.store(to + i, four(v128.load(from + i)));
  for (const end: usize = 4 * <usize>size; i < end; i += 4)
    store<f32>(to + i, f32x4.extract_lane(four(v128.load32_splat(from + i)), 0));
}

// @ts-ignore: decorator
@inline
function four(x: v128): v128 {
  const zero = f32x4.splat(0);
  return f32x4.add(exponential(f32x4.pmin(x, zero)), f32x4.pmax(x, zero));
}

function scale(values: usize, factor: f32, size: i32): void {
  const factors = f32x4.splat(factor);
  let i: usize = 0;
  for (const whole: usize = 4 * <usize>(size & ~3); i < whole; i += 16)
    v128.store(values + i, f32x4.mul(v128.load(values + i), factors));
  for (const end: usize = 4 * <usize>size; i < end; i += 4) store<f32>(values + i, load<f32>(values + i) * factor);
}

function dot(a: usize, b: usize, size: i32): f32 {
  let sums = f32x4.splat(0);
  let i: usize = 0;
  for (const whole: usize = 4 * <usize>(size & ~3); i < whole; i += 16)
    sums = f32x4.add(sums, f32x4.mul(v128.load(a + i), v128.load(b + i)));
  let sum =
    f32x4.extract_lane(sums, 0) + f32x4.extract_lane(sums, 1) + f32x4.extract_lane(sums, 2) + f32x4.extract_lane(sums, 3);
  for (const end: usize = 4 * <usize>size; i < end; i += 4) sum += load<f32>(a + i) * load<f32>(b + i);
  return sum;
}

// @ts-ignore: decorator
@inline
function quotient(dividend: f32, divisor: f32): f32 {
  return divisor == 0 ? 0 : dividend / divisor;
}
