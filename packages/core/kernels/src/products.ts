import { exponential } from "./exponential";

/**
 * Products of one row with quantised matrices, spread over threads, and the small steps between them. Codes are small
 * integers, so a product is a sum of integer products within each block: the row is written as integers too, 16 bits of
 * it (`fast`) or 31 (`exact`: two products, finer than float32).
 */

/** Kinds of matrices. */
const FLOATS = 0;
const FOUR_BITS = 1;
const FOUR_BITS_EXACT = 2;
const EIGHT_BITS = 3;
const EIGHT_BITS_EXACT = 4;

/** The largest 16-bit part of an input; one more would not survive rounding. */
const LARGEST: f32 = 32766;

/** A row of inputs, as numbers and as integers; set up by the caller. */
@unmanaged
class Row {
  size: i32;
  /** f32 [size]. */
  values: usize;
  /** i16 [size]: values ≈ factor · (high + low / 2¹⁵). */
  high: usize;
  low: usize;
  /** f32 for each block. */
  factors: usize;
  sums: usize;
}

/** A matrix whose rows lie in groups of eight, one lane of two vectors each. */
@unmanaged
export class Product {
  kind: i32;
  /** Of rows. */
  groups: i32;
  /** Of columns, and their size; for floats the columns themselves. */
  blocks: i32;
  blockSize: i32;
  /** Groups a thread takes at a time. */
  chunk: i32;
  /** Are there minima? */
  minima: i32;
  /** For each group and block: codes, eight scales f32, eight minima f32. Floats: f32 [groups, columns, 8]. */
  weights: usize;
  input: Row;
  /** f32 [8 · groups]. */
  output: usize;
}

/** One chunk of a product's groups. */
export function productPart(product: Product, part: i32): void {
  const from = part * product.chunk;
  const to = min(from + product.chunk, product.groups);
  switch (product.kind) {
    case FLOATS:
      floats(product, from, to);
      break;
    case FOUR_BITS:
      quantised(product, from, to, 4, false);
      break;
    case FOUR_BITS_EXACT:
      quantised(product, from, to, 4, true);
      break;
    case EIGHT_BITS:
      quantised(product, from, to, 8, false);
      break;
    default:
      quantised(product, from, to, 8, true);
  }
}

/** What eight columns of four rows add to `sums`: weights are pairs of columns of each row, inputs the pairs. */
// @ts-ignore: decorator
@inline
function add(sums: v128, w0: v128, w1: v128, w2: v128, w3: v128, inputs: usize): v128 {
  const front = i32x4.add(i32x4.dot_i16x8_s(w0, v128.load32_splat(inputs)), i32x4.dot_i16x8_s(w1, v128.load32_splat(inputs, 4)));
  const back = i32x4.add(i32x4.dot_i16x8_s(w2, v128.load32_splat(inputs, 8)), i32x4.dot_i16x8_s(w3, v128.load32_splat(inputs, 12)));
  return i32x4.add(sums, i32x4.add(front, back));
}

/** Unsigned codes of 4 bits: a 16-bit lane holds columns p, 2 + p, 4 + p, 6 + p of its row, low bits first. */
// @ts-ignore: decorator
@inline
function addFourBits(sums: v128, packed: v128, inputs: usize): v128 {
  const mask = i16x8.splat(15);
  return add(
    sums,
    v128.and(packed, mask),
    v128.and(i16x8.shr_u(packed, 4), mask),
    v128.and(i16x8.shr_u(packed, 8), mask),
    i16x8.shr_u(packed, 12),
    inputs,
  );
}

/** Signed codes of 8 bits: eight bytes are two columns of four rows. */
// @ts-ignore: decorator
@inline
function addEightBits(sums: v128, codes: usize, inputs: usize): v128 {
  return add(
    sums,
    v128.load8x8_s(codes),
    v128.load8x8_s(codes, 8),
    v128.load8x8_s(codes, 16),
    v128.load8x8_s(codes, 24),
    inputs,
  );
}

/** `bits` and `exact` are constants where it is called, so each kind is a loop of its own. */
// @ts-ignore: decorator
@inline
function quantised(product: Product, from: i32, to: i32, bits: i32, exact: bool): void {
  const blocks = product.blocks;
  const blockSize = product.blockSize;
  const input = product.input;
  const minima = product.minima;
  let codes = product.weights + <usize>from * blocks * (blockSize * bits + (minima ? 64 : 32));
  for (let group = from; group < to; group++) {
    let high = input.high;
    let low = input.low;
    let factor = input.factors;
    const toSums = input.sums - factor;
    let sum0 = f32x4.splat(0);
    let sum1 = f32x4.splat(0);
    for (let block = 0; block < blocks; block++) {
      let high0 = i32x4.splat(0);
      let high1 = i32x4.splat(0);
      let low0 = i32x4.splat(0);
      let low1 = i32x4.splat(0);
      for (const end = high + 2 * blockSize; high < end; ) {
        if (bits == 4) {
          const packed0 = v128.load(codes);
          const packed1 = v128.load(codes, 16);
          high0 = addFourBits(high0, packed0, high);
          high1 = addFourBits(high1, packed1, high);
          if (exact) {
            low0 = addFourBits(low0, packed0, low);
            low1 = addFourBits(low1, packed1, low);
          }
          const packed2 = v128.load(codes, 32);
          const packed3 = v128.load(codes, 48);
          high0 = addFourBits(high0, packed2, high + 16);
          high1 = addFourBits(high1, packed3, high + 16);
          if (exact) {
            low0 = addFourBits(low0, packed2, low + 16);
            low1 = addFourBits(low1, packed3, low + 16);
          }
          codes += 64;
          high += 32;
          low += 32;
        } else {
          high0 = addEightBits(high0, codes, high);
          high1 = addEightBits(high1, codes + 32, high);
          if (exact) {
            low0 = addEightBits(low0, codes, low);
            low1 = addEightBits(low1, codes + 32, low);
          }
          codes += 64;
          high += 16;
          low += 16;
        }
      }
      const unit = v128.load32_splat(factor);
      sum0 = f32x4.add(sum0, f32x4.mul(whole(high0, low0, exact), f32x4.mul(v128.load(codes), unit)));
      sum1 = f32x4.add(sum1, f32x4.mul(whole(high1, low1, exact), f32x4.mul(v128.load(codes, 16), unit)));
      codes += 32;
      if (minima) {
        const inputs = v128.load32_splat(factor + toSums);
        sum0 = f32x4.add(sum0, f32x4.mul(v128.load(codes), inputs));
        sum1 = f32x4.add(sum1, f32x4.mul(v128.load(codes, 16), inputs));
        codes += 32;
      }
      factor += 4;
    }
    v128.store(product.output + 32 * group, sum0);
    v128.store(product.output + 32 * group, sum1, 16);
  }
}

// @ts-ignore: decorator
@inline
function whole(high: v128, low: v128, exact: bool): v128 {
  const sums = f32x4.convert_i32x4_s(high);
  if (!exact) return sums;
  return f32x4.add(sums, f32x4.mul(f32x4.convert_i32x4_s(low), f32x4.splat(1.0 / 32768)));
}

/** Floats [columns, 8]. */
function floats(product: Product, from: i32, to: i32): void {
  const columns = product.blocks;
  let weights = product.weights + 32 * <usize>from * columns;
  for (let group = from; group < to; group++) {
    let values = product.input.values;
    let sum0 = f32x4.splat(0);
    let sum1 = f32x4.splat(0);
    for (let column = 0; column < columns; column++) {
      const value = v128.load32_splat(values);
      sum0 = f32x4.add(sum0, f32x4.mul(v128.load(weights), value));
      sum1 = f32x4.add(sum1, f32x4.mul(v128.load(weights, 16), value));
      weights += 32;
      values += 4;
    }
    v128.store(product.output + 32 * group, sum0);
    v128.store(product.output + 32 * group, sum1, 16);
  }
}

/** Writes a row's values as integers, block by block. */
export function toIntegers(row: Row, blockSize: i32): void {
  const blocks = row.size / blockSize;
  for (let block = 0; block < blocks; block++) {
    const at = row.values + 4 * block * blockSize;
    let largest: f32 = 0;
    let sum: f32 = 0;
    for (let i = 0; i < blockSize; i++) {
      const value = load<f32>(at + 4 * i);
      largest = max(largest, abs(value));
      sum += value;
    }
    const factor = largest / LARGEST;
    const inverse = largest > 1e-30 ? (LARGEST * 32768) / largest : 0;
    store<f32>(row.factors + 4 * block, factor);
    store<f32>(row.sums + 4 * block, sum);
    for (let i = 0; i < blockSize; i++) {
      const integer = <i32>nearest(load<f32>(at + 4 * i) * inverse);
      const high = (integer + 16384) >> 15;
      const index = 2 * (block * blockSize + i);
      store<i16>(row.high + index, <i16>high);
      store<i16>(row.low + index, <i16>(integer - (high << 15)));
    }
  }
}

/** x / √(mean(x²) + ε) · w. */
export function normalise(values: usize, weight: usize, output: usize, size: i32, epsilon: f32): void {
  let squares = f32x4.splat(0);
  for (let i: usize = 0; i < 4 * <usize>size; i += 16) {
    const value = v128.load(values + i);
    squares = f32x4.add(squares, f32x4.mul(value, value));
  }
  const sum =
    f32x4.extract_lane(squares, 0) +
    f32x4.extract_lane(squares, 1) +
    f32x4.extract_lane(squares, 2) +
    f32x4.extract_lane(squares, 3);
  const scale = f32x4.splat(1 / sqrt(sum / <f32>size + epsilon));
  for (let i: usize = 0; i < 4 * <usize>size; i += 16)
    v128.store(output + i, f32x4.mul(f32x4.mul(v128.load(values + i), scale), v128.load(weight + i)));
}

/** values += other. */
export function addTo(values: usize, other: usize, size: i32): void {
  for (let i: usize = 0; i < 4 * <usize>size; i += 16)
    v128.store(values + i, f32x4.add(v128.load(values + i), v128.load(other + i)));
}

/** x · sigmoid(x) of each gate, times what it lets through. */
export function silu(gates: usize, inputs: usize, output: usize, size: i32): void {
  const one = f32x4.splat(1);
  for (let i: usize = 0; i < 4 * <usize>size; i += 16) {
    const gate = v128.load(gates + i);
    const divisor = f32x4.add(one, exponential(f32x4.neg(gate)));
    v128.store(output + i, f32x4.mul(f32x4.div(gate, divisor), v128.load(inputs + i)));
  }
}
