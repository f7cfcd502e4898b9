import { rowSums, score } from "./score";

/** Keys that are turned before they are scored: as many as `score` takes at once. */
const STEP: i32 = 4;

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
 * block by block of `block` keys, a multiple of 4. Keys are of type T, f32 or i8 with `keyScales`. `scratch` has room for
 * f32 [4 + heads, D]. Whole fours of scores are written where keys have scales: up to three beyond `count`.
 */
export function scoreTurned<T>(
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
  const keyBytes: usize = <usize>size * sizeof<T>();
  const angleBytes: usize = 8 * ((pairs + 3) & ~3);
  const turnedQueries = scratch + <usize>STEP * 4 * size;
  for (let first = 0; first < count; first += block) {
    const by = changetype<TurnedBlock>(blocks);
    blocks += offsetof<TurnedBlock>();
    let angles = by.keys;
    const end = min(count, first + block);
    if (heads == 3 && !(pairs & 3)) {
      turnThree(queries, by.queries, turnedQueries, size, pairs);
      for (let i = first; i < end; i++) {
        const unit: f32 = isInteger<T>() ? scale * load<f32>(keyScales + 4 * i) : scale;
        oneKeyThreeQueries<T>(turnedQueries, keys, angles, scores + 4 * i, stride, size, pairs, unit);
        keys += keyBytes;
        angles += angleBytes;
      }
    } else {
      turnRows<f32>(queries, by.queries, 0, turnedQueries, heads, size, pairs);
      for (let i = first; i < end; i += STEP) {
        const some = min(STEP, end - i);
        turnRows<T>(keys, angles, angleBytes, scratch, some, size, pairs);
        score(turnedQueries, scratch, scores + 4 * i, heads, some, stride, size, scale);
        if (isInteger<T>()) applyScales(scores + 4 * i, keyScales + 4 * i, heads, stride);
        keys += <usize>STEP * keyBytes;
        angles += <usize>STEP * angleBytes;
      }
    }
  }
}

/**
 * Without a detour over the scratch: a turned key stays in registers, for three queries as `turnThree` lays them out. No
 * more than a key at a time, or the compiler runs out of registers: it puts all loads of a loop before its sums.
 */
function oneKeyThreeQueries<T>(
  queries: usize,
  key: usize,
  angles: usize,
  scores: usize,
  stride: i32,
  size: i32,
  pairs: i32,
  scale: f32,
): void {
  let other = key + <usize>pairs * sizeof<T>();
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  const end = key + <usize>size * sizeof<T>();
  for (const last = other; key < last; ) {
    const x = four<T>(key);
    const y = four<T>(other);
    const cos = v128.load(angles);
    const sin = v128.load(angles, 16);
    const k = f32x4.sub(f32x4.mul(x, cos), f32x4.mul(y, sin));
    const l = f32x4.add(f32x4.mul(y, cos), f32x4.mul(x, sin));
    a = f32x4.add(a, f32x4.add(f32x4.mul(v128.load(queries), k), f32x4.mul(v128.load(queries, 16), l)));
    b = f32x4.add(b, f32x4.add(f32x4.mul(v128.load(queries, 32), k), f32x4.mul(v128.load(queries, 48), l)));
    c = f32x4.add(c, f32x4.add(f32x4.mul(v128.load(queries, 64), k), f32x4.mul(v128.load(queries, 80), l)));
    key += 4 * sizeof<T>();
    other += 4 * sizeof<T>();
    angles += 32;
    queries += 96;
  }
  while (other < end) {
    const k = four<T>(other);
    a = f32x4.add(a, f32x4.mul(v128.load(queries), k));
    b = f32x4.add(b, f32x4.mul(v128.load(queries, 16), k));
    c = f32x4.add(c, f32x4.mul(v128.load(queries, 32), k));
    other += 4 * sizeof<T>();
    queries += 48;
  }
  const sums = f32x4.mul(rowSums(a, b, c, c), f32x4.splat(scale));
  v128.store32_lane(scores, sums, 0);
  v128.store32_lane(scores + 4 * stride, sums, 1);
  v128.store32_lane(scores + 8 * stride, sums, 2);
}

/** Rotates three queries [3, D] by the same angles: four channels of each and the four that they turn with side by side. */
function turnThree(queries: usize, angles: usize, output: usize, size: i32, pairs: i32): void {
  const half: usize = 4 * pairs;
  const bytes: usize = 4 * size;
  const rest = output + 6 * half;
  for (let head = 0; head < 3; head++) {
    const query = queries + head * bytes;
    let to = output + 32 * head;
    for (let at: usize = 0; at < half; at += 16) {
      turnFour(v128.load(query + at), v128.load(query + half + at), angles + 2 * at, 16, to);
      to += 96;
    }
    to = rest + 16 * head;
    for (let at: usize = 2 * half; at < bytes; at += 16) {
      v128.store(to, v128.load(query + at));
      to += 48;
    }
  }
}

/** Rotates rows of T [count, D] into f32, each by the angles `step` bytes behind those of the one before. */
export function turnRows<T>(rows: usize, angles: usize, step: usize, output: usize, count: i32, size: i32, pairs: i32): void {
  const half: usize = 4 * pairs;
  const apart: usize = <usize>pairs * sizeof<T>();
  const whole: usize = <usize>(pairs & ~3) * sizeof<T>();
  for (let row = 0; row < count; row++) {
    let angle = angles;
    const end = rows + <usize>size * sizeof<T>();
    const middle = rows + apart;
    for (const last = rows + whole; rows < last; ) {
      turnFour(four<T>(rows), four<T>(rows + apart), angle, half, output);
      rows += 4 * sizeof<T>();
      angle += 32;
      output += 16;
    }
    while (rows < middle) {
      turnPair(<f32>load<T>(rows), <f32>load<T>(rows + apart), angle, half, output);
      rows += sizeof<T>();
      angle += 4;
      output += 4;
    }
    rows += apart;
    output += half;
    while (rows < end) {
      store<f32>(output, <f32>load<T>(rows));
      rows += sizeof<T>();
      output += 4;
    }
    angles += step;
  }
}

/** Four channels as floats. */
// @ts-ignore: decorator
@inline
function four<T>(at: usize): v128 {
  return isInteger<T>()
    ? f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(at))))
    : v128.load(at);
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
