import { mixCompact, scoreCompact } from "./compact";
import { exponential } from "./exponential";
import { ATTENTION, share } from "./threads";

/**
 * Attention of one query token over keys and values in place, spread over threads: each part is some slots of one key
 * head with a softmax of its own, and the parts of a head are joined by their maxima and sums. The query heads that share
 * a key head go together, so that every key and value is read from memory once. Sizes are in floats, D a multiple of 4.
 */

/** Some slots of one key head. */
@unmanaged
class Part {
  /** f32 [heads, D], or i16 with f32 `factors` [heads]. */
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
}

@unmanaged
class Attention {
  parts: usize;
  /** Query heads of a key head. */
  heads: i32;
  size: i32;
  scale: f32;
}

/** Computes all parts, and joins those of each key head, `each` that follow one another, into `output` [K · heads, D]. */
export function attend(job: Attention, count: i32, each: i32, output: usize): void {
  share(ATTENTION, changetype<usize>(job), count);
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
  if (part.keyScales) {
    scoreCompact(part.queries, part.factors, part.keys, part.keyScales, part.scores, heads, part.count, part.stride, size, job.scale);
    softmax(part.scores, part.sums, part.maxima, heads, part.count, part.stride);
    mixCompact(part.scores, part.weights, part.values, part.valueScales, part.slot, part.outputs, heads, part.count, part.stride, size);
  } else {
    score(part.queries, part.keys, part.scores, heads, part.count, part.stride, size, job.scale);
    softmax(part.scores, part.sums, part.maxima, heads, part.count, part.stride);
    mix(part.scores, part.values, part.outputs, heads, part.count, part.stride, size);
  }
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

/** scores[h, i] = scale · ⟨query h, key i⟩ for `heads` queries [heads, D] and `count` keys [count, D]; rows of `stride`. */
function score(
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
    let head = 0;
    for (; head + 2 <= heads; head += 2)
      twoQueries(queries + head * bytes, keys, scores + 4 * (head * stride + i), stride, size, scale);
    if (head < heads) oneQuery(queries + head * bytes, keys, scores + 4 * (head * stride + i), size, scale);
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

/** Four keys and one query; D is taken in sixteens, and what is left in fours. */
function oneQuery(query: usize, key0: usize, scores: usize, size: i32, scale: f32): void {
  const bytes: usize = 4 * size;
  let key1 = key0 + bytes;
  let key2 = key1 + bytes;
  let key3 = key2 + bytes;
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  for (const end = query + (bytes & ~63); query < end; ) {
    a = addSixteen(a, query, key0);
    b = addSixteen(b, query, key1);
    c = addSixteen(c, query, key2);
    d = addSixteen(d, query, key3);
    query += 64;
    key0 += 64;
    key1 += 64;
    key2 += 64;
    key3 += 64;
  }
  for (const end = query + (bytes & 63); query < end; ) {
    a = addFour(a, query, key0);
    b = addFour(b, query, key1);
    c = addFour(c, query, key2);
    d = addFour(d, query, key3);
    query += 16;
    key0 += 16;
    key1 += 16;
    key2 += 16;
    key3 += 16;
  }
  v128.store(scores, f32x4.mul(rowSums(a, b, c, d), f32x4.splat(scale)));
}

/** Four keys and two queries, so that a key is loaded once for both. */
function twoQueries(query: usize, key0: usize, scores: usize, stride: i32, size: i32, scale: f32): void {
  const bytes: usize = 4 * size;
  let key1 = key0 + bytes;
  let key2 = key1 + bytes;
  let key3 = key2 + bytes;
  let other = query + bytes;
  let a = f32x4.splat(0);
  let b = f32x4.splat(0);
  let c = f32x4.splat(0);
  let d = f32x4.splat(0);
  let e = f32x4.splat(0);
  let f = f32x4.splat(0);
  let g = f32x4.splat(0);
  let h = f32x4.splat(0);
  for (const end = query + bytes; query < end; ) {
    const q = v128.load(query);
    const r = v128.load(other);
    const k0 = v128.load(key0);
    a = f32x4.add(a, f32x4.mul(q, k0));
    e = f32x4.add(e, f32x4.mul(r, k0));
    const k1 = v128.load(key1);
    b = f32x4.add(b, f32x4.mul(q, k1));
    f = f32x4.add(f, f32x4.mul(r, k1));
    const k2 = v128.load(key2);
    c = f32x4.add(c, f32x4.mul(q, k2));
    g = f32x4.add(g, f32x4.mul(r, k2));
    const k3 = v128.load(key3);
    d = f32x4.add(d, f32x4.mul(q, k3));
    h = f32x4.add(h, f32x4.mul(r, k3));
    query += 16;
    other += 16;
    key0 += 16;
    key1 += 16;
    key2 += 16;
    key3 += 16;
  }
  v128.store(scores, f32x4.mul(rowSums(a, b, c, d), f32x4.splat(scale)));
  v128.store(scores + 4 * stride, f32x4.mul(rowSums(e, f, g, h), f32x4.splat(scale)));
}

// @ts-ignore: decorator
@inline
function addSixteen(sums: v128, query: usize, key: usize): v128 {
  const front = f32x4.add(
    f32x4.mul(v128.load(query), v128.load(key)),
    f32x4.mul(v128.load(query, 16), v128.load(key, 16)),
  );
  const back = f32x4.add(
    f32x4.mul(v128.load(query, 32), v128.load(key, 32)),
    f32x4.mul(v128.load(query, 48), v128.load(key, 48)),
  );
  return f32x4.add(sums, f32x4.add(front, back));
}

// @ts-ignore: decorator
@inline
function addFour(sums: v128, query: usize, key: usize): v128 {
  return f32x4.add(sums, f32x4.mul(v128.load(query), v128.load(key)));
}

/** The sum of each of four vectors. */
// @ts-ignore: decorator
@inline
function rowSums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
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

/** outputs[h] += Σ weights[h, i] · value i; outputs [heads, D], values [count, D]. */
function mix(
  weights: usize,
  values: usize,
  outputs: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
): void {
  const bytes: usize = 4 * size;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    let head = 0;
    for (; head + 2 <= heads; head += 2)
      twoOutputs(weights + 4 * (head * stride + i), values, outputs + <usize>head * bytes, stride, bytes);
    if (head < heads) oneOutput(weights + 4 * (head * stride + i), values, outputs + <usize>head * bytes, bytes);
    values += 4 * bytes;
  }
  for (; i < count; i++) {
    for (let head = 0; head < heads; head++) {
      const a = load<f32>(weights + 4 * (head * stride + i));
      for (let j = 0; j < size; j++) {
        const at = outputs + 4 * (head * size + j);
        store<f32>(at, load<f32>(at) + a * load<f32>(values + 4 * j));
      }
    }
    values += bytes;
  }
}

/** Four values for one head. */
function oneOutput(row: usize, value0: usize, output: usize, bytes: usize): void {
  const a = v128.load32_splat(row);
  const b = v128.load32_splat(row, 4);
  const c = v128.load32_splat(row, 8);
  const d = v128.load32_splat(row, 12);
  let value1 = value0 + bytes;
  let value2 = value1 + bytes;
  let value3 = value2 + bytes;
  for (const end = output + bytes; output < end; output += 16) {
    const ab = f32x4.add(f32x4.mul(a, v128.load(value0)), f32x4.mul(b, v128.load(value1)));
    const cd = f32x4.add(f32x4.mul(c, v128.load(value2)), f32x4.mul(d, v128.load(value3)));
    v128.store(output, f32x4.add(v128.load(output), f32x4.add(ab, cd)));
    value0 += 16;
    value1 += 16;
    value2 += 16;
    value3 += 16;
  }
}

/** Four values for two heads, so that a value is loaded once for both. */
function twoOutputs(row: usize, value0: usize, output: usize, stride: i32, bytes: usize): void {
  const a = v128.load32_splat(row);
  const b = v128.load32_splat(row, 4);
  const c = v128.load32_splat(row, 8);
  const d = v128.load32_splat(row, 12);
  row += 4 * stride;
  const e = v128.load32_splat(row);
  const f = v128.load32_splat(row, 4);
  const g = v128.load32_splat(row, 8);
  const h = v128.load32_splat(row, 12);
  let value1 = value0 + bytes;
  let value2 = value1 + bytes;
  let value3 = value2 + bytes;
  let other = output + bytes;
  for (const end = other; output < end; output += 16) {
    const v0 = v128.load(value0);
    const v1 = v128.load(value1);
    const v2 = v128.load(value2);
    const v3 = v128.load(value3);
    const first = f32x4.add(
      f32x4.add(f32x4.mul(a, v0), f32x4.mul(b, v1)),
      f32x4.add(f32x4.mul(c, v2), f32x4.mul(d, v3)),
    );
    v128.store(output, f32x4.add(v128.load(output), first));
    const second = f32x4.add(
      f32x4.add(f32x4.mul(e, v0), f32x4.mul(f, v1)),
      f32x4.add(f32x4.mul(g, v2), f32x4.mul(h, v3)),
    );
    v128.store(other, f32x4.add(v128.load(other), second));
    other += 16;
    value0 += 16;
    value1 += 16;
    value2 += 16;
    value3 += 16;
  }
}
