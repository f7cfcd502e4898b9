/** outputs[h] += Σ weights[h, i] · value i; outputs [heads, D], values [count, D]. */
export function mix(
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
