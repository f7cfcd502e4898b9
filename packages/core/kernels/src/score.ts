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
export function rowSums(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(v128.shuffle<f32>(a, b, 0, 4, 1, 5), v128.shuffle<f32>(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(v128.shuffle<f32>(c, d, 0, 4, 1, 5), v128.shuffle<f32>(c, d, 2, 6, 3, 7));
  return f32x4.add(v128.shuffle<f32>(ab, cd, 0, 1, 4, 5), v128.shuffle<f32>(ab, cd, 2, 3, 6, 7));
}
