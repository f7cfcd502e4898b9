import { exponential } from "./exponential";

/** Each row of scores becomes a distribution over its first `count`, but for a factor: its sum and maximum are kept. */
export function softmax(scores: usize, sums: usize, maxima: usize, heads: i32, count: i32, stride: i32): void {
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
