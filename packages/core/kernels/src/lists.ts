import { softmax } from "./softmax";
import { rowSums } from "./score";
import { turnRows } from "./turned";

/**
 * Attention over lists of slots, a list for each query and head (retrieved tokens): rows of keys and values are read where
 * they lie, in f32 or in 8 bits. Sizes are in floats.
 */

/** Slots of a list that the query meets under one rotation. */
@unmanaged
class Run {
  /** f32 [D]. */
  query: usize;
  /** What turns the query, a row of angles as in turned.ts; 0 where it is turned already. */
  angles: usize;
  /** f32 [slots, D], keys and values; or codes with scales as in compact.ts, f32 [slots]. */
  keys: usize;
  values: usize;
  keyScales: usize;
  valueScales: usize;
  /** i32 [count]. */
  slots: usize;
  count: i32;
  /** Multiplies the products; with `cosine` they are divided by the norms of query and key. */
  scale: f32;
  cosine: i32;
}

/** One query and head: a softmax over all of its runs. */
@unmanaged
export class Unit {
  runs: usize;
  count: i32;
  /** f32 [D]: the sum of values times exp(score − maximum), and what this has to be divided by. */
  output: usize;
  sum: usize;
  maximum: usize;
}

@unmanaged
class Lists {
  units: usize;
  count: i32;
  /** Units of a part. */
  each: i32;
  /** Scratch of each part: f32 [stride] for scores, and f32 [D] for a query. */
  scratch: usize;
  stride: i32;
  size: i32;
  pairs: i32;
}

/** The maximum of a unit without slots: finite, so that differences of maxima are numbers. */
const NOTHING: f32 = -1e30;
/** Norms are at least this. */
const LEAST_NORM: f32 = 1e-6;

export function listsPart(address: usize, index: i32): void {
  const job = changetype<Lists>(address);
  const scores = job.scratch + 4 * <usize>(index * (job.stride + job.size));
  const query = scores + 4 * <usize>job.stride;
  const end = min(job.count, (index + 1) * job.each);
  for (let i = index * job.each; i < end; i++) {
    const unit = changetype<Unit>(job.units + i * offsetof<Unit>());
    attendUnit(unit, scores, query, job.size, job.pairs);
    const sum = load<f32>(unit.sum);
    const inverse: f32 = sum > 0 ? 1 / sum : 0;
    for (let at = unit.output, end = at + 4 * <usize>job.size; at < end; at += 4) store<f32>(at, load<f32>(at) * inverse);
  }
}

/** `scores` has room for all slots and what fills them up to a multiple of 16, `turned` for f32 [D]. */
export function attendUnit(unit: Unit, scores: usize, turned: usize, size: i32, pairs: i32): void {
  let count = 0;
  for (let i = 0; i < unit.count; i++) {
    const run = changetype<Run>(unit.runs + i * offsetof<Run>());
    let query = run.query;
    if (run.angles) {
      turnRows<f32>(query, run.angles, 0, turned, 1, size, pairs);
      query = turned;
    }
    if (run.keyScales) scoreCodes(run, query, scores + 4 * <usize>count, size);
    else scoreList(run, query, scores + 4 * <usize>count, size);
    count += run.count;
  }
  memory.fill(unit.output, 0, 4 * size);
  if (count == 0) {
    store<f32>(unit.sum, 0);
    store<f32>(unit.maximum, NOTHING);
    return;
  }
  softmax(scores, unit.sum, unit.maximum, 1, count, 0);
  for (let i = 0; i < unit.count; i++) {
    const run = changetype<Run>(unit.runs + i * offsetof<Run>());
    if (run.valueScales) mixCodes(run, scores, unit.output, size);
    else mixList(run, scores, unit.output, size);
    scores += 4 * <usize>run.count;
  }
}

/** scores[i] = scale · ⟨query, key of slot i⟩; whole fours are written, up to three beyond the last. */
function scoreList(run: Run, query: usize, scores: usize, size: i32): void {
  const bytes: usize = 4 * <usize>size;
  const slots = run.slots;
  const last = run.count - 1;
  const norm: f32 = run.cosine ? normOf(query, size) : 1;
  const scale = f32x4.splat(run.scale / norm);
  for (let i = 0; i <= last; i += 4) {
    const key0 = run.keys + bytes * load<u32>(slots + 4 * i);
    const key1 = run.keys + bytes * load<u32>(slots + 4 * min(i + 1, last));
    const key2 = run.keys + bytes * load<u32>(slots + 4 * min(i + 2, last));
    const key3 = run.keys + bytes * load<u32>(slots + 4 * min(i + 3, last));
    let products = fourProducts(query, key0, key1, key2, key3, size);
    if (run.cosine)
      products = f32x4.div(products, f32x4(normOf(key0, size), normOf(key1, size), normOf(key2, size), normOf(key3, size)));
    v128.store(scores + 4 * i, f32x4.mul(products, scale));
  }
}

/** As `scoreList`, for keys in 8 bits; D is a multiple of 8. */
function scoreCodes(run: Run, query: usize, scores: usize, size: i32): void {
  const norm: f32 = run.cosine ? normOf(query, size) : 1;
  const scale = run.scale / norm;
  for (let i = 0; i < run.count; i++) {
    const slot: usize = load<u32>(run.slots + 4 * i);
    let key = run.keys + slot * size;
    let a = f32x4.splat(0);
    let squares = f32x4.splat(0);
    for (let at = query, end = query + 4 * <usize>size; at < end; at += 32) {
      const codes = v128.load8x8_s(key);
      const front = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes));
      const back = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes));
      a = f32x4.add(a, f32x4.add(f32x4.mul(v128.load(at), front), f32x4.mul(v128.load(at, 16), back)));
      squares = f32x4.add(squares, f32x4.add(f32x4.mul(front, front), f32x4.mul(back, back)));
      key += 8;
    }
    const unit = load<f32>(run.keyScales + 4 * slot);
    const product = sumOf(a) * unit * scale;
    store<f32>(scores + 4 * i, run.cosine ? product / max(sqrt<f32>(sumOf(squares)) * unit, LEAST_NORM) : product);
  }
}

/** As `mixList`, for values in 8 bits: channels of an even and the following odd slot lie side by side. */
function mixCodes(run: Run, weights: usize, output: usize, size: i32): void {
  for (let i = 0; i < run.count; i++) {
    const slot: usize = load<u32>(run.slots + 4 * i);
    const unit = f32x4.splat(load<f32>(weights + 4 * i) * load<f32>(run.valueScales + 4 * slot));
    let pairs = run.values + (slot >> 1) * 2 * size;
    const up = slot & 1 ? 0 : 8;
    for (let to = output, end = output + 4 * <usize>size; to < end; to += 32) {
      // The low byte of each word is the even slot's, which goes to the high byte first.
      const codes = i16x8.shr_s(i16x8.shl(v128.load(pairs), up), 8);
      const front = f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(codes));
      const back = f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(codes));
      v128.store(to, f32x4.add(v128.load(to), f32x4.mul(unit, front)));
      v128.store(to, f32x4.add(v128.load(to, 16), f32x4.mul(unit, back)), 16);
      pairs += 16;
    }
  }
}

// @ts-ignore: decorator
@inline
function sumOf(a: v128): f32 {
  return f32x4.extract_lane(a, 0) + f32x4.extract_lane(a, 1) + f32x4.extract_lane(a, 2) + f32x4.extract_lane(a, 3);
}

function fourProducts(query: usize, key0: usize, key1: usize, key2: usize, key3: usize, size: i32): v128 {
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  const end = query + 4 * <usize>size;
  for (const whole = query + 4 * <usize>(size & ~3); query < whole; query += 16) {
    const q = v128.load(query);
    a = f32x4.add(a, f32x4.mul(q, v128.load(key0)));
    b = f32x4.add(b, f32x4.mul(q, v128.load(key1)));
    c = f32x4.add(c, f32x4.mul(q, v128.load(key2)));
    d = f32x4.add(d, f32x4.mul(q, v128.load(key3)));
    key0 += 16;
    key1 += 16;
    key2 += 16;
    key3 += 16;
  }
  let sums = rowSums(a, b, c, d);
  for (; query < end; query += 4) {
    const keys = f32x4(load<f32>(key0), load<f32>(key1), load<f32>(key2), load<f32>(key3));
    sums = f32x4.add(sums, f32x4.mul(v128.load32_splat(query), keys));
    key0 += 4;
    key1 += 4;
    key2 += 4;
    key3 += 4;
  }
  return sums;
}

function normOf(row: usize, size: i32): f32 {
  let sum: f32 = 0;
  for (let i = 0; i < size; i++) {
    const value = load<f32>(row + 4 * i);
    sum += value * value;
  }
  return max(sqrt<f32>(sum), LEAST_NORM);
}

/** output += Σ weights[i] · value of slot i. */
function mixList(run: Run, weights: usize, output: usize, size: i32): void {
  const bytes: usize = 4 * <usize>size;
  const slots = run.slots;
  let i = 0;
  for (; i + 4 <= run.count; i += 4) {
    const a = v128.load32_splat(weights + 4 * i);
    const b = v128.load32_splat(weights + 4 * i, 4);
    const c = v128.load32_splat(weights + 4 * i, 8);
    const d = v128.load32_splat(weights + 4 * i, 12);
    let value0 = run.values + bytes * load<u32>(slots + 4 * i);
    let value1 = run.values + bytes * load<u32>(slots + 4 * i, 4);
    let value2 = run.values + bytes * load<u32>(slots + 4 * i, 8);
    let value3 = run.values + bytes * load<u32>(slots + 4 * i, 12);
    let to = output;
    for (const whole = output + 4 * <usize>(size & ~3); to < whole; to += 16) {
      const ab = f32x4.add(f32x4.mul(a, v128.load(value0)), f32x4.mul(b, v128.load(value1)));
      const cd = f32x4.add(f32x4.mul(c, v128.load(value2)), f32x4.mul(d, v128.load(value3)));
      v128.store(to, f32x4.add(v128.load(to), f32x4.add(ab, cd)));
      value0 += 16;
      value1 += 16;
      value2 += 16;
      value3 += 16;
    }
    for (const end = output + bytes; to < end; to += 4) {
      const values = f32x4(load<f32>(value0), load<f32>(value1), load<f32>(value2), load<f32>(value3));
      const products = f32x4.mul(v128.load(weights + 4 * i), values);
      store<f32>(to, load<f32>(to) + f32x4.extract_lane(rowSums(products, a, a, a), 0));
      value0 += 4;
      value1 += 4;
      value2 += 4;
      value3 += 4;
    }
  }
  for (; i < run.count; i++) {
    const weight = load<f32>(weights + 4 * i);
    const value = run.values + bytes * load<u32>(slots + 4 * i);
    for (let j: usize = 0; j < bytes; j += 4)
      store<f32>(output + j, load<f32>(output + j) + weight * load<f32>(value + j));
  }
}
