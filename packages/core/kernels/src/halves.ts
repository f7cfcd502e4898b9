import { rowSums } from "./score";

/**
 * Numbers in IEEE half precision. The bits of a half without its sign, moved up by 13 places, are a float of 2^−112 times
 * its size, so one product decodes normal and subnormal halves alike.
 */

/** 2^112. */
const UP: f32 = 5.192296858534828e33;
/** The sign and the moved bits, once a half was extended with its sign. */
const MOVED: i32 = 0x8fffe000;

/** Decodes eights of codes u16 [count] to floats [count]. */
export function fromHalves(codes: usize, numbers: usize, count: i32): void {
  const up = f32x4.splat(UP);
  for (const end = codes + 2 * count; codes < end; codes += 16) {
    const eight = v128.load(codes);
    v128.store(numbers, finite(f32x4.mul(moved(i32x4.extend_low_i16x8_s(eight)), up)));
    v128.store(numbers, finite(f32x4.mul(moved(i32x4.extend_high_i16x8_s(eight)), up)), 16);
    numbers += 32;
  }
}

/** Encodes eights of floats [count] as codes u16 [count]: to the nearest, ties to even; the largest half is the limit. */
export function toHalves(numbers: usize, codes: usize, count: i32): void {
  for (const end = codes + 2 * count; codes < end; codes += 16) {
    v128.store(codes, i16x8.narrow_i32x4_u(half(v128.load(numbers)), half(v128.load(numbers, 16))));
    numbers += 32;
  }
}

/**
 * scores[h, i] = scale · ⟨query h, key i⟩ as `score` in score.ts, for keys in half precision, with D a multiple of 8 and
 * queries that are 2^112 times as large.
 */
export function scoreHalves(
  queries: usize,
  keys: usize,
  scores: usize,
  heads: i32,
  count: i32,
  stride: i32,
  size: i32,
  scale: f32,
): void {
  const row = 2 * size;
  for (let i = 0; i < count; i += 4) {
    // Behind the last key the last one is read again, so that there are always four.
    const last = keys + (count - i - 1) * row;
    const key1 = min(keys + row, last);
    const key2 = min(keys + 2 * row, last);
    const key3 = min(keys + 3 * row, last);
    for (let head = 0; head < heads; head += 2) {
      const query = queries + 4 * head * size;
      const other = head + 1 < heads ? query + 4 * size : query;
      let a = f32x4.splat(0);
      let b = f32x4.splat(0);
      let c = f32x4.splat(0);
      let d = f32x4.splat(0);
      let e = f32x4.splat(0);
      let f = f32x4.splat(0);
      let g = f32x4.splat(0);
      let h = f32x4.splat(0);
      for (let at = 0; at < row; at += 16) {
        const q = v128.load(query + 2 * at);
        const r = v128.load(query + 2 * at, 16);
        const s = v128.load(other + 2 * at);
        const t = v128.load(other + 2 * at, 16);
        const k0 = v128.load(keys + at);
        a = products(a, q, r, k0);
        e = products(e, s, t, k0);
        const k1 = v128.load(key1 + at);
        b = products(b, q, r, k1);
        f = products(f, s, t, k1);
        const k2 = v128.load(key2 + at);
        c = products(c, q, r, k2);
        g = products(g, s, t, k2);
        const k3 = v128.load(key3 + at);
        d = products(d, q, r, k3);
        h = products(h, s, t, k3);
      }
      const to = scores + 4 * (head * stride + i);
      write(to, f32x4.mul(rowSums(a, b, c, d), f32x4.splat(scale)), count - i);
      if (head + 1 < heads) write(to + 4 * stride, f32x4.mul(rowSums(e, f, g, h), f32x4.splat(scale)), count - i);
    }
    keys += 4 * row;
  }
}

// @ts-ignore: decorator
@inline
function products(sums: v128, front: v128, back: v128, codes: v128): v128 {
  return f32x4.add(
    sums,
    f32x4.add(
      f32x4.mul(front, moved(i32x4.extend_low_i16x8_s(codes))),
      f32x4.mul(back, moved(i32x4.extend_high_i16x8_s(codes))),
    ),
  );
}

// @ts-ignore: decorator
@inline
function moved(extended: v128): v128 {
  return v128.and(i32x4.shl(extended, 13), i32x4.splat(MOVED));
}

/** What lies above the largest half is infinity or no number, whose exponent is all ones. */
// @ts-ignore: decorator
@inline
function finite(values: v128): v128 {
  const beyond = f32x4.gt(f32x4.abs(values), f32x4.splat(65504));
  return v128.or(values, v128.and(beyond, i32x4.splat(0x7f800000)));
}

// @ts-ignore: decorator
@inline
function half(values: v128): v128 {
  const sign = v128.and(i32x4.shr_u(values, 16), i32x4.splat(0x8000));
  const bits = v128.and(values, i32x4.splat(0x7fffffff));
  const size = i32x4.min_u(bits, i32x4.splat(0x477fe000)); // 65504
  const even = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1));
  const normal = i32x4.shr_u(i32x4.add(i32x4.add(size, even), i32x4.splat(0xfff - 0x38000000)), 13);
  // Below 2^−14 halves are multiples of 2^−24, which is the last place of a float from 0.5 to 1.
  const small = i32x4.sub(f32x4.add(size, f32x4.splat(0.5)), i32x4.splat(0x3f000000));
  const code = v128.bitselect(small, normal, i32x4.lt_u(size, i32x4.splat(0x38800000)));
  const none = i32x4.gt_u(bits, i32x4.splat(0x7f800000));
  return v128.or(sign, v128.bitselect(i32x4.splat(0x7e00), code, none));
}

/** Stores the first `left` of four numbers. */
// @ts-ignore: decorator
@inline
function write(to: usize, four: v128, left: i32): void {
  if (left >= 4) {
    v128.store(to, four);
    return;
  }
  v128.store32_lane(to, four, 0);
  if (left > 1) v128.store32_lane(to, four, 1, 4);
  if (left > 2) v128.store32_lane(to, four, 2, 8);
}
