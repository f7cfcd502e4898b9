/**
 * The largest scores of many rows, block by block of columns: each row keeps its best in a heap, the worst of them on top,
 * which further scores have to beat. Of equal scores those of smaller columns win.
 */
@unmanaged
class Nearest {
  /** f32, a row of them every `stride` floats. */
  scores: usize;
  stride: i32;
  rows: i32;
  /** i32 [rows]: the columns of each row, from the first on, that count. */
  limits: usize;
  /** f32, one for each column, which its scores are multiplied by; 0 where there are none. */
  factors: usize;
  /** What the first column is called; columns come in ascending order. */
  first: i32;
  /** f32 and i32 [rows, most], i32 [rows]: what was kept. */
  values: usize;
  columns: usize;
  counts: usize;
  most: i32;
  /** Rows of a part. */
  each: i32;
}

export function nearestPart(address: usize, index: i32): void {
  const job = changetype<Nearest>(address);
  const end = min(job.rows, (index + 1) * job.each);
  for (let row = index * job.each; row < end; row++) {
    const kept = 4 * <usize>(row * job.most);
    const count = job.counts + 4 * row;
    store<i32>(
      count,
      keep(
        job.scores + 4 * <usize>row * job.stride,
        load<i32>(job.limits + 4 * row),
        job.factors,
        job.first,
        job.values + kept,
        job.columns + kept,
        load<i32>(count),
        job.most,
      ),
    );
  }
}

function keep(
  scores: usize,
  limit: i32,
  factors: usize,
  first: i32,
  values: usize,
  columns: usize,
  count: i32,
  most: i32,
): i32 {
  let i = 0;
  for (; i < limit && count < most; i++) {
    const score = scoreAt(scores, factors, i);
    if (score > -Infinity) rise(values, columns, count++, score, first + i);
  }
  if (i >= limit || most == 0) return count;
  let least = load<f32>(values);
  while (i < limit) {
    // Sixteen scores are compared at once; most of the time none is good enough.
    if (i + 16 <= limit) {
      const threshold = f32x4.splat(least);
      const ab = v128.or(f32x4.gt(four(scores, factors, i), threshold), f32x4.gt(four(scores, factors, i + 4), threshold));
      const cd = v128.or(f32x4.gt(four(scores, factors, i + 8), threshold), f32x4.gt(four(scores, factors, i + 12), threshold));
      if (!v128.any_true(v128.or(ab, cd))) {
        i += 16;
        continue;
      }
    }
    for (const end = min(limit, i + 16); i < end; i++) {
      const score = scoreAt(scores, factors, i);
      if (score > least) {
        sink(values, columns, most, score, first + i);
        least = load<f32>(values);
      }
    }
  }
  return count;
}

// @ts-ignore: decorator
@inline
function scoreAt(scores: usize, factors: usize, i: i32): f32 {
  const score = load<f32>(scores + 4 * <usize>i);
  return factors ? score * load<f32>(factors + 4 * <usize>i) : score;
}

// @ts-ignore: decorator
@inline
function four(scores: usize, factors: usize, i: i32): v128 {
  const some = v128.load(scores + 4 * <usize>i);
  return factors ? f32x4.mul(some, v128.load(factors + 4 * <usize>i)) : some;
}

/** Adds an entry behind a heap of `place` entries. */
function rise(values: usize, columns: usize, place: i32, score: f32, column: i32): void {
  while (place > 0) {
    const parent = (place - 1) >> 1;
    const value = load<f32>(values + 4 * parent);
    const other = load<i32>(columns + 4 * parent);
    if (!isWorse(score, column, value, other)) break;
    store<f32>(values + 4 * place, value);
    store<i32>(columns + 4 * place, other);
    place = parent;
  }
  store<f32>(values + 4 * place, score);
  store<i32>(columns + 4 * place, column);
}

/** Puts an entry in place of the top of a heap of `count` entries. */
function sink(values: usize, columns: usize, count: i32, score: f32, column: i32): void {
  let place = 0;
  for (;;) {
    let child = 2 * place + 1;
    if (child >= count) break;
    if (child + 1 < count && isWorse(load<f32>(values + 4 * child, 4), load<i32>(columns + 4 * child, 4), load<f32>(values + 4 * child), load<i32>(columns + 4 * child))) child++;
    const value = load<f32>(values + 4 * child);
    const other = load<i32>(columns + 4 * child);
    if (!isWorse(value, other, score, column)) break;
    store<f32>(values + 4 * place, value);
    store<i32>(columns + 4 * place, other);
    place = child;
  }
  store<f32>(values + 4 * place, score);
  store<i32>(columns + 4 * place, column);
}

// @ts-ignore: decorator
@inline
function isWorse(a: f32, column: i32, b: f32, other: i32): bool {
  return a < b || (a == b && column > other);
}

/** Sorts the columns that each row has kept, ascending; their scores are lost. */
export function sortNearest(columns: usize, counts: usize, rows: i32, most: i32): void {
  for (let row = 0; row < rows; row++) {
    const list = columns + 4 * <usize>(row * most);
    const count = load<i32>(counts + 4 * row);
    if (count <= 64) insertionSort(list, count);
    else heapSort(list, count);
  }
}

function insertionSort(list: usize, count: i32): void {
  for (let i = 1; i < count; i++) {
    const column = load<i32>(list + 4 * i);
    let place = i;
    for (; place > 0; place--) {
      const before = load<i32>(list + 4 * (place - 1));
      if (before <= column) break;
      store<i32>(list + 4 * place, before);
    }
    store<i32>(list + 4 * place, column);
  }
}

function heapSort(list: usize, count: i32): void {
  for (let start = (count >> 1) - 1; start >= 0; start--) siftDown(list, start, count);
  for (let end = count - 1; end > 0; end--) {
    const largest = load<i32>(list);
    store<i32>(list, load<i32>(list + 4 * end));
    store<i32>(list + 4 * end, largest);
    siftDown(list, 0, end);
  }
}

function siftDown(list: usize, place: i32, count: i32): void {
  const column = load<i32>(list + 4 * place);
  for (let child = 2 * place + 1; child < count; child = 2 * place + 1) {
    if (child + 1 < count && load<i32>(list + 4 * child, 4) > load<i32>(list + 4 * child)) child++;
    const largest = load<i32>(list + 4 * child);
    if (largest <= column) break;
    store<i32>(list + 4 * place, largest);
    place = child;
  }
  store<i32>(list + 4 * place, column);
}
