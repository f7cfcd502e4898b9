/**
 * What score.ts and mix.ts do, over a second copy of keys and values in 8 bits, a scale for each row: a quarter of the
 * memory to read, and products of integers, which are twice as many at once. Queries and probabilities are written in 16
 * bits.
 */

/** The largest code of a key or value, and of a query or probability. */
const LARGEST_8: f32 = 127;
const LARGEST_16: f32 = 32766;

/** Tokens whose products fit 32 bits: 2 · 127 · 32766 for a pair. */
const BLOCK = 256;

/** Writes `count` keys [count, D] as codes i8 [count, D] and scales f32 [count]. */
export function compactKeys(keys: usize, codes: usize, scales: usize, count: i32, size: i32): void {
  for (let i = 0; i < count; i++) {
    const largest = largestOf(keys, size);
    const inverse = f32x4.splat(largest > 1e-30 ? LARGEST_8 / largest : 0);
    store<f32>(scales, largest / LARGEST_8);
    for (let j = 0; j < size; j += 8) {
      const front = rounded(v128.load(keys), inverse);
      const back = rounded(v128.load(keys, 16), inverse);
      const words = i16x8.narrow_i32x4_s(front, back);
      v128.store64_lane(codes, i8x16.narrow_i16x8_s(words, words), 0);
      keys += 32;
      codes += 8;
    }
    scales += 4;
  }
}

/**
 * Writes `count` values [count, D] to codes i8 [slots / 2, D, 2] and scales f32 [slots], from `slot` on: channels of an
 * even and the following odd slot lie side by side, so that one product takes both.
 */
export function compactValues(values: usize, codes: usize, scales: usize, slot: i32, count: i32, size: i32): void {
  for (const end = slot + count; slot < end; slot++) {
    const largest = largestOf(values, size);
    const inverse = largest > 1e-30 ? LARGEST_8 / largest : 0;
    store<f32>(scales + 4 * slot, largest / LARGEST_8);
    const row = codes + (slot >> 1) * 2 * size + (slot & 1);
    for (let j = 0; j < size; j++) {
      store<i8>(row + 2 * j, <i8>(<i32>nearest(load<f32>(values) * inverse)));
      values += 4;
    }
  }
}

/** Writes queries [heads, D] as codes i16 and a factor each. */
export function compactQueries(queries: usize, codes: usize, factors: usize, heads: i32, size: i32): void {
  for (let head = 0; head < heads; head++) {
    const largest = largestOf(queries, size);
    const inverse = largest > 1e-30 ? LARGEST_16 / largest : 0;
    store<f32>(factors + 4 * head, largest / LARGEST_16);
    for (let j = 0; j < size; j++) {
      store<i16>(codes, <i16>(<i32>nearest(load<f32>(queries) * inverse)));
      queries += 4;
      codes += 2;
    }
  }
}

/** As `score` of score.ts. Whole fours of scores are written: up to three beyond `count`. */
export function scoreCompact(
  queries: usize,
  factors: usize,
  keys: usize,
  scales: usize,
  scores: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
  scale: f32,
): void {
  for (let i = 0; i < count; i += 4) {
    let query = queries;
    for (let head = 0; head < heads; head++) {
      const factor = f32x4.splat(load<f32>(factors + 4 * head) * scale);
      let key0 = keys;
      let key1 = key0 + <usize>size;
      let key2 = key1 + <usize>size;
      let key3 = key2 + <usize>size;
      let a = i32x4.splat(0);
      let b = i32x4.splat(0);
      let c = i32x4.splat(0);
      let d = i32x4.splat(0);
      for (const end = query + 2 * <usize>size; query < end; query += 16) {
        const q = v128.load(query);
        a = i32x4.add(a, i32x4.dot_i16x8_s(q, v128.load8x8_s(key0)));
        b = i32x4.add(b, i32x4.dot_i16x8_s(q, v128.load8x8_s(key1)));
        c = i32x4.add(c, i32x4.dot_i16x8_s(q, v128.load8x8_s(key2)));
        d = i32x4.add(d, i32x4.dot_i16x8_s(q, v128.load8x8_s(key3)));
        key0 += 8;
        key1 += 8;
        key2 += 8;
        key3 += 8;
      }
      const ab = i32x4.add(v128.shuffle<i32>(a, b, 0, 4, 1, 5), v128.shuffle<i32>(a, b, 2, 6, 3, 7));
      const cd = i32x4.add(v128.shuffle<i32>(c, d, 0, 4, 1, 5), v128.shuffle<i32>(c, d, 2, 6, 3, 7));
      const sums = i32x4.add(v128.shuffle<i32>(ab, cd, 0, 1, 4, 5), v128.shuffle<i32>(ab, cd, 2, 3, 6, 7));
      const units = f32x4.mul(v128.load(scales), factor);
      v128.store(scores + 4 * (head * stride + i), f32x4.mul(f32x4.convert_i32x4_s(sums), units));
    }
    keys += 4 * <usize>size;
    scales += 16;
  }
}

/** As `mix` of mix.ts, for the slots from `slot` on. `weights` has room for i16 [BLOCK + 2]. */
export function mixCompact(
  probabilities: usize,
  weights: usize,
  codes: usize,
  scales: usize,
  slot: i32,
  outputs: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
): void {
  for (let done = 0; done < count; ) {
    // Blocks end where pairs do.
    const first = slot + done;
    const width = min(BLOCK - (first & 1), count - done);
    const pairs = (((first + width + 1) & ~1) - (first & ~1)) >> 1;
    for (let head = 0; head < heads; head++) {
      const row = probabilities + 4 * (head * stride + done);
      const unit = weigh(row, scales + 4 * first, weights, first & 1, width);
      mixBlock(weights, codes + (first >> 1) * 2 * size, outputs + 4 * head * size, pairs, size, unit);
    }
    done += width;
  }
}

/** Writes probabilities times scales as i16 of whole pairs, the missing ends 0; what one unit of them is worth. */
function weigh(row: usize, scales: usize, weights: usize, skipped: i32, count: i32): f32 {
  const whole: usize = 4 * (count & ~3);
  const rest: usize = 4 * count;
  let most = f32x4.splat(0);
  for (let i: usize = 0; i < whole; i += 16)
    most = f32x4.pmax(most, f32x4.mul(v128.load(row + i), v128.load(scales + i)));
  let largest = largestLane(most);
  for (let i = whole; i < rest; i += 4) {
    const weight = load<f32>(row + i) * load<f32>(scales + i);
    largest = weight > largest ? weight : largest;
  }
  const inverse = largest > 1e-30 ? LARGEST_16 / largest : 0;
  if (skipped) store<i16>(weights, 0);
  weights += 2 * skipped;
  for (let i: usize = 0; i < whole; i += 16) {
    const weight = f32x4.mul(v128.load(row + i), v128.load(scales + i));
    const words = rounded(weight, f32x4.splat(inverse));
    v128.store64_lane(weights, i16x8.narrow_i32x4_s(words, words), 0);
    weights += 8;
  }
  for (let i = whole; i < rest; i += 4) {
    store<i16>(weights, <i16>(<i32>nearest(load<f32>(row + i) * load<f32>(scales + i) * inverse)));
    weights += 2;
  }
  if ((skipped + count) & 1) store<i16>(weights, 0);
  return largest / LARGEST_16;
}

/** output += unit · Σ weight · value over pairs of tokens; channels in sixteens, and what is left in eights. */
function mixBlock(weights: usize, codes: usize, output: usize, pairs: i32, size: i32, unit: f32): void {
  const step: usize = 2 * size;
  const end = weights + 4 * <usize>pairs;
  const units = f32x4.splat(unit);
  let channel = 0;
  for (; channel + 16 <= size; channel += 16) {
    let value = codes;
    let a = i32x4.splat(0);
    let b = i32x4.splat(0);
    let c = i32x4.splat(0);
    let d = i32x4.splat(0);
    for (let weight = weights; weight < end; weight += 4) {
      const pair = v128.load32_splat(weight);
      a = i32x4.add(a, i32x4.dot_i16x8_s(pair, v128.load8x8_s(value)));
      b = i32x4.add(b, i32x4.dot_i16x8_s(pair, v128.load8x8_s(value, 8)));
      c = i32x4.add(c, i32x4.dot_i16x8_s(pair, v128.load8x8_s(value, 16)));
      d = i32x4.add(d, i32x4.dot_i16x8_s(pair, v128.load8x8_s(value, 24)));
      value += step;
    }
    addScaled(output, a, units);
    addScaled(output + 16, b, units);
    addScaled(output + 32, c, units);
    addScaled(output + 48, d, units);
    output += 64;
    codes += 32;
  }
  if (channel < size) {
    let a = i32x4.splat(0);
    let b = i32x4.splat(0);
    for (let weight = weights; weight < end; weight += 4) {
      const pair = v128.load32_splat(weight);
      a = i32x4.add(a, i32x4.dot_i16x8_s(pair, v128.load8x8_s(codes)));
      b = i32x4.add(b, i32x4.dot_i16x8_s(pair, v128.load8x8_s(codes, 8)));
      codes += step;
    }
    addScaled(output, a, units);
    addScaled(output + 16, b, units);
  }
}

// @ts-ignore: decorator
@inline
function addScaled(output: usize, sums: v128, units: v128): void {
  v128.store(output, f32x4.add(v128.load(output), f32x4.mul(f32x4.convert_i32x4_s(sums), units)));
}

function largestOf(values: usize, size: i32): f32 {
  let largest = f32x4.splat(0);
  for (let i = 0; i < size; i += 4) largest = f32x4.pmax(largest, f32x4.abs(v128.load(values + 4 * i)));
  return largestLane(largest);
}

function largestLane(values: v128): f32 {
  const two = f32x4.pmax(values, v128.shuffle<f32>(values, values, 2, 3, 0, 1));
  return f32x4.extract_lane(f32x4.pmax(two, v128.shuffle<f32>(two, two, 1, 0, 3, 2)), 0);
}

/** Whole numbers of at most 22 bits: so large a sum keeps no fraction. */
// @ts-ignore: decorator
@inline
function rounded(values: v128, inverse: v128): v128 {
  const magic = f32x4.splat(12582912);
  return i32x4.sub(f32x4.add(f32x4.mul(values, inverse), magic), magic);
}
