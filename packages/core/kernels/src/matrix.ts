/**
 * C[r, j] += Σ_k A[r, k] · B[k, j] for r < rows, j < columns, k < inner. A[r, k] lies at a + r · aRow + k · aStep, rows of B
 * are bStep apart and rows of C cRow; all distances are in bytes. Four rows and eight columns of C stay in registers.
 */
export function multiplyAdd(
  a: usize,
  aRow: usize,
  aStep: usize,
  b: usize,
  bStep: usize,
  c: usize,
  cRow: usize,
  rows: i32,
  columns: i32,
  inner: i32,
): void {
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    let column = 0;
    for (; column + 8 <= columns; column += 8)
      fourByEight(a, aRow, aStep, b + 4 * column, bStep, c + 4 * column, cRow, inner);
    for (let i: usize = 0; i < 4; i++) rest(a + i * aRow, aStep, b, bStep, c + i * cRow, column, columns, inner);
    a += 4 * aRow;
    c += 4 * cRow;
  }
  for (; row < rows; row++) {
    rest(a, aStep, b, bStep, c, 0, columns, inner);
    a += aRow;
    c += cRow;
  }
}

// @ts-ignore: decorator
@inline
function fourByEight(a: usize, aRow: usize, aStep: usize, b: usize, bStep: usize, c: usize, cRow: usize, inner: i32): void {
  const c1 = c + cRow;
  const c2 = c1 + cRow;
  const c3 = c2 + cRow;
  let s0 = v128.load(c);
  let t0 = v128.load(c, 16);
  let s1 = v128.load(c1);
  let t1 = v128.load(c1, 16);
  let s2 = v128.load(c2);
  let t2 = v128.load(c2, 16);
  let s3 = v128.load(c3);
  let t3 = v128.load(c3, 16);
  const aRow2 = 2 * aRow;
  const aRow3 = 3 * aRow;
  for (const end = a + aStep * <usize>inner; a != end; a += aStep) {
    const left = v128.load(b);
    const right = v128.load(b, 16);
    const a0 = v128.load32_splat(a);
    s0 = f32x4.add(s0, f32x4.mul(a0, left));
    t0 = f32x4.add(t0, f32x4.mul(a0, right));
    const a1 = v128.load32_splat(a + aRow);
    s1 = f32x4.add(s1, f32x4.mul(a1, left));
    t1 = f32x4.add(t1, f32x4.mul(a1, right));
    const a2 = v128.load32_splat(a + aRow2);
    s2 = f32x4.add(s2, f32x4.mul(a2, left));
    t2 = f32x4.add(t2, f32x4.mul(a2, right));
    const a3 = v128.load32_splat(a + aRow3);
    s3 = f32x4.add(s3, f32x4.mul(a3, left));
    t3 = f32x4.add(t3, f32x4.mul(a3, right));
    b += bStep;
  }
  v128.store(c, s0);
  v128.store(c, t0, 16);
  v128.store(c1, s1);
  v128.store(c1, t1, 16);
  v128.store(c2, s2);
  v128.store(c2, t2, 16);
  v128.store(c3, s3);
  v128.store(c3, t3, 16);
}

/** One row of C from `column` on, four columns at a time and then one by one. */
function rest(a: usize, aStep: usize, b: usize, bStep: usize, c: usize, column: i32, columns: i32, inner: i32): void {
  const end = a + aStep * <usize>inner;
  for (; column + 4 <= columns; column += 4) {
    let sums = v128.load(c + 4 * column);
    let from = b + 4 * column;
    for (let at = a; at != end; at += aStep) {
      sums = f32x4.add(sums, f32x4.mul(v128.load32_splat(at), v128.load(from)));
      from += bStep;
    }
    v128.store(c + 4 * column, sums);
  }
  for (; column < columns; column++) {
    let sum = load<f32>(c + 4 * column);
    let from = b + 4 * column;
    for (let at = a; at != end; at += aStep) {
      sum += load<f32>(at) * load<f32>(from);
      from += bStep;
    }
    store<f32>(c + 4 * column, sum);
  }
}
