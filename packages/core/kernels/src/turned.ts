import { score } from "./score";

/** Keys that are turned before they are scored: as many as `score` takes at once. */
const STEP = 4;

/** What a block of keys is turned by. Angles are in rows of f32, four pairs after the other: cos [4] and sin [4]. */
@unmanaged
class TurnedBlock {
  /** One row, for all queries. */
  queries: usize;
  /** A row for each key. */
  keys: usize;
}

/**
 * As `score` of score.ts, for keys and queries that are not rotated yet: pairs (i, i + pairs) of their first channels are,
 * block by block of `block` keys, a multiple of 4. Keys are f32, or i8 where there are scales. `scratch` has room for
 * f32 [4 + heads, D]. Whole fours of scores are written with scales: up to three beyond `count`.
 */
export function scoreTurned(
  queries: usize,
  keys: usize,
  keyScales: usize,
  blocks: usize,
  block: i32,
  scratch: usize,
  scores: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
  pairs: i32,
  scale: f32,
): void {
  const bytes: usize = 4 * size;
  const angleBytes: usize = 8 * ((pairs + 3) & ~3);
  const turnedQueries = scratch + STEP * bytes;
  for (let first = 0; first < count; first += block) {
    const by = changetype<TurnedBlock>(blocks);
    blocks += offsetof<TurnedBlock>();
    turnRows(queries, by.queries, 0, turnedQueries, heads, size, pairs);
    let angles = by.keys;
    let i = first;
    const end = min(count, first + block);
    if (heads == 3 && !keyScales && !(pairs & 3)) {
      for (; i + 2 <= end; i += 2) {
        twoKeysThreeQueries(turnedQueries, keys, angles, scores + 4 * i, stride, size, pairs, scale);
        keys += 2 * bytes;
        angles += 2 * angleBytes;
      }
    }
    for (; i < end; i += STEP) {
      const some = min(STEP, end - i);
      if (keyScales) turnCodes(keys, angles, angleBytes, scratch, some, size, pairs);
      else turnRows(keys, angles, angleBytes, scratch, some, size, pairs);
      score(turnedQueries, scratch, scores + 4 * i, heads, some, stride, size, scale);
      if (keyScales) {
        applyScales(scores + 4 * i, keyScales, heads, stride);
        keyScales += 4 * STEP;
        keys += STEP * <usize>size;
      } else keys += STEP * bytes;
      angles += STEP * angleBytes;
    }
  }
}

/** Without a detour over the scratch: turned keys stay in registers, for three queries. */
function twoKeysThreeQueries(
  query0: usize,
  key0: usize,
  angles0: usize,
  scores: usize,
  stride: i32,
  size: i32,
  pairs: i32,
  scale: f32,
): void {
  const half: usize = 4 * pairs;
  const bytes: usize = 4 * size;
  let key1 = key0 + bytes;
  let query1 = query0 + bytes;
  let query2 = query1 + bytes;
  let angles1 = angles0 + 2 * half;
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  let e = f32x4.splat(0);
  let f = f32x4.splat(0);
  for (const end = key0 + half; key0 < end; ) {
    const x0 = v128.load(key0);
    const y0 = v128.load(key0 + half);
    const cos0 = v128.load(angles0);
    const sin0 = v128.load(angles0, 16);
    const k0 = f32x4.sub(f32x4.mul(x0, cos0), f32x4.mul(y0, sin0));
    const l0 = f32x4.add(f32x4.mul(y0, cos0), f32x4.mul(x0, sin0));
    const x1 = v128.load(key1);
    const y1 = v128.load(key1 + half);
    const cos1 = v128.load(angles1);
    const sin1 = v128.load(angles1, 16);
    const k1 = f32x4.sub(f32x4.mul(x1, cos1), f32x4.mul(y1, sin1));
    const l1 = f32x4.add(f32x4.mul(y1, cos1), f32x4.mul(x1, sin1));
    const q0 = v128.load(query0);
    a = f32x4.add(a, f32x4.mul(q0, k0));
    b = f32x4.add(b, f32x4.mul(q0, k1));
    const q1 = v128.load(query1);
    c = f32x4.add(c, f32x4.mul(q1, k0));
    d = f32x4.add(d, f32x4.mul(q1, k1));
    const q2 = v128.load(query2);
    e = f32x4.add(e, f32x4.mul(q2, k0));
    f = f32x4.add(f, f32x4.mul(q2, k1));
    const r0 = v128.load(query0 + half);
    a = f32x4.add(a, f32x4.mul(r0, l0));
    b = f32x4.add(b, f32x4.mul(r0, l1));
    const r1 = v128.load(query1 + half);
    c = f32x4.add(c, f32x4.mul(r1, l0));
    d = f32x4.add(d, f32x4.mul(r1, l1));
    const r2 = v128.load(query2 + half);
    e = f32x4.add(e, f32x4.mul(r2, l0));
    f = f32x4.add(f, f32x4.mul(r2, l1));
    key0 += 16;
    key1 += 16;
    query0 += 16;
    query1 += 16;
    query2 += 16;
    angles0 += 32;
    angles1 += 32;
  }
  key0 += half;
  key1 += half;
  query0 += half;
  query1 += half;
  query2 += half;
  for (const end = key0 + bytes - 2 * half; key0 < end; ) {
    const k0 = v128.load(key0);
    const k1 = v128.load(key1);
    const q0 = v128.load(query0);
    a = f32x4.add(a, f32x4.mul(q0, k0));
    b = f32x4.add(b, f32x4.mul(q0, k1));
    const q1 = v128.load(query1);
    c = f32x4.add(c, f32x4.mul(q1, k0));
    d = f32x4.add(d, f32x4.mul(q1, k1));
    const q2 = v128.load(query2);
    e = f32x4.add(e, f32x4.mul(q2, k0));
    f = f32x4.add(f, f32x4.mul(q2, k1));
    key0 += 16;
    key1 += 16;
    query0 += 16;
    query1 += 16;
    query2 += 16;
  }
  v128.store64_lane(scores, twoSums(a, b, scale), 0);
  v128.store64_lane(scores + 4 * stride, twoSums(c, d, scale), 0);
  v128.store64_lane(scores + 8 * stride, twoSums(e, f, scale), 0);
}

// @ts-ignore: decorator
@inline
function twoSums(a: v128, b: v128, scale: f32): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  return f32x4.mul(f32x4.add(ab, v128.shuffle<f32>(ab, ab, 2, 3, 0, 1)), f32x4.splat(scale));
}

/** Rotates rows f32 [count, D], each by the angles `step` bytes behind those of the one before. */
function turnRows(rows: usize, angles: usize, step: usize, output: usize, count: i32, size: i32, pairs: i32): void {
  const half: usize = 4 * pairs;
  const whole: usize = half & ~15;
  const rest: usize = 4 * size - 2 * half;
  for (let row = 0; row < count; row++) {
    let angle = angles;
    for (const end = rows + whole; rows < end; ) {
      turnFour(v128.load(rows), v128.load(rows + half), angle, half, output);
      rows += 16;
      angle += 32;
      output += 16;
    }
    for (const end = rows + (half - whole); rows < end; ) {
      turnPair(load<f32>(rows), load<f32>(rows + half), angle, half, output);
      rows += 4;
      angle += 4;
      output += 4;
    }
    rows += half;
    output += half;
    memory.copy(output, rows, rest);
    rows += rest;
    output += rest;
    angles += step;
  }
}

/** The same for codes i8 [count, D]; what comes out is without their scales. */
function turnCodes(codes: usize, angles: usize, step: usize, output: usize, count: i32, size: i32, pairs: i32): void {
  const half: usize = 4 * pairs;
  const whole: usize = pairs & ~3;
  for (let row = 0; row < count; row++) {
    let angle = angles;
    const end = codes + <usize>size;
    for (const last = codes + whole; codes < last; ) {
      turnFour(fourCodes(codes), fourCodes(codes + <usize>pairs), angle, half, output);
      codes += 4;
      angle += 32;
      output += 16;
    }
    for (const last = codes + (<usize>pairs - whole); codes < last; codes++) {
      turnPair(<f32>load<i8>(codes), <f32>load<i8>(codes + <usize>pairs), angle, half, output);
      angle += 4;
      output += 4;
    }
    codes += <usize>pairs;
    output += half;
    for (; codes < end; codes++) {
      store<f32>(output, <f32>load<i8>(codes));
      output += 4;
    }
    angles += step;
  }
}

// @ts-ignore: decorator
@inline
function fourCodes(codes: usize): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(codes))));
}

// @ts-ignore: decorator
@inline
function turnFour(a: v128, b: v128, angle: usize, half: usize, output: usize): void {
  const cos = v128.load(angle);
  const sin = v128.load(angle, 16);
  v128.store(output, f32x4.sub(f32x4.mul(a, cos), f32x4.mul(b, sin)));
  v128.store(output + half, f32x4.add(f32x4.mul(b, cos), f32x4.mul(a, sin)));
}

// @ts-ignore: decorator
@inline
function turnPair(a: f32, b: f32, angle: usize, half: usize, output: usize): void {
  const cos = load<f32>(angle);
  const sin = load<f32>(angle, 16);
  store<f32>(output, a * cos - b * sin);
  store<f32>(output + half, b * cos + a * sin);
}

/** scores[h, i] · scale i for four keys. */
function applyScales(scores: usize, keyScales: usize, heads: i32, stride: i32): void {
  const scales = v128.load(keyScales);
  for (let head = 0; head < heads; head++) {
    v128.store(scores, f32x4.mul(v128.load(scores), scales));
    scores += 4 * stride;
  }
}
