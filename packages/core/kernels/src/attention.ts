import { exponential } from "./exponential";

/**
 * Attention of one query token over keys and values in place. The query heads that share a key head go together, so that
 * every key and value is read from memory once. Sizes are in floats, D a multiple of 4.
 */

/** scores[h, i] = scale · ⟨query h, key i⟩ for `heads` queries [heads, D] and `count` keys [count, D]; rows of `stride`. */
export function score(
  queries: usize,
  keys: usize,
  scores: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
  scale: f32,
): void {
  const bytes = 4 * size;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    let query = queries;
    for (let head = 0; head < heads; head++) {
      let key = keys;
      let a = f32x4.splat(0);
      let b = f32x4.splat(0);
      let c = f32x4.splat(0);
      let d = f32x4.splat(0);
      for (const end = query + bytes; query < end; ) {
        const q = v128.load(query);
        a = f32x4.add(a, f32x4.mul(q, v128.load(key)));
        b = f32x4.add(b, f32x4.mul(q, v128.load(key + bytes)));
        c = f32x4.add(c, f32x4.mul(q, v128.load(key + 2 * bytes)));
        d = f32x4.add(d, f32x4.mul(q, v128.load(key + 3 * bytes)));
        query += 16;
        key += 16;
      }
      // Four sums at once: columns to rows.
      const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
      const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
      const sums = f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
      v128.store(scores + 4 * (head * stride + i), f32x4.mul(sums, f32x4.splat(scale)));
    }
    keys += 4 * bytes;
  }
  for (; i < count; i++) {
    for (let head = 0; head < heads; head++) {
      let sum: f32 = 0;
      for (let j = 0; j < size; j++) sum += load<f32>(queries + 4 * (head * size + j)) * load<f32>(keys + 4 * j);
      store<f32>(scores + 4 * (head * stride + i), sum * scale);
    }
    keys += bytes;
  }
}

/** Each row of scores becomes a distribution over its first `count`. */
export function softmax(scores: usize, heads: i32, count: i32, stride: i32): void {
  for (let head = 0; head < heads; head++) {
    const row = scores + 4 * <usize>(head * stride);
    let largest = load<f32>(row);
    for (let i = 1; i < count; i++) largest = max(largest, load<f32>(row + 4 * i));
    // The row is filled up to whole vectors with what adds nothing.
    for (let i = count; i & 3; i++) store<f32>(row + 4 * i, -Infinity);
    const shift = f32x4.splat(largest);
    let sums = f32x4.splat(0);
    for (let i = 0; i < count; i += 4) {
      const power = exponential(f32x4.sub(v128.load(row + 4 * i), shift));
      v128.store(row + 4 * i, power);
      sums = f32x4.add(sums, power);
    }
    const sum =
      f32x4.extract_lane(sums, 0) +
      f32x4.extract_lane(sums, 1) +
      f32x4.extract_lane(sums, 2) +
      f32x4.extract_lane(sums, 3);
    const factor = f32x4.splat(1 / sum);
    for (let i = 0; i < count; i += 4) v128.store(row + 4 * i, f32x4.mul(v128.load(row + 4 * i), factor));
  }
}

/** outputs[h] += Σ probabilities[h, i] · value i; outputs [heads, D], values [count, D]. */
export function mix(
  probabilities: usize,
  values: usize,
  outputs: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
): void {
  const bytes = 4 * size;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    for (let head = 0; head < heads; head++) {
      const row = probabilities + 4 * (head * stride + i);
      const a = v128.load32_splat(row);
      const b = v128.load32_splat(row, 4);
      const c = v128.load32_splat(row, 8);
      const d = v128.load32_splat(row, 12);
      let value = values;
      let output = outputs + head * bytes;
      for (const end = value + bytes; value < end; ) {
        const ab = f32x4.add(f32x4.mul(a, v128.load(value)), f32x4.mul(b, v128.load(value + bytes)));
        const cd = f32x4.add(f32x4.mul(c, v128.load(value + 2 * bytes)), f32x4.mul(d, v128.load(value + 3 * bytes)));
        v128.store(output, f32x4.add(v128.load(output), f32x4.add(ab, cd)));
        value += 16;
        output += 16;
      }
    }
    values += 4 * bytes;
  }
  for (; i < count; i++) {
    for (let head = 0; head < heads; head++) {
      const a = load<f32>(probabilities + 4 * (head * stride + i));
      for (let j = 0; j < size; j++) {
        const at = outputs + 4 * (head * size + j);
        store<f32>(at, load<f32>(at) + a * load<f32>(values + 4 * j));
      }
    }
    values += bytes;
  }
}
