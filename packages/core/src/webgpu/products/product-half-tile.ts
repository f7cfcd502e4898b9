import { each, lines } from "../device/declare.ts";
import type { SquareTiling } from "../device/tilings.ts";
import { passesOf, type TileCode } from "./product-tile.ts";

/**
 * Tokens are in units in which their largest number is 2⁸ to 2⁹, weights in such in which it is 1 to 2. So 32 products
 * sum up to at most 2¹⁵, half of what halves reach, and what falls below their smallest normal number is 2⁻²² of the
 * largest product.
 */
const LIFT = 256;

/**
 * Tiles of halves: 10.5 KiB of workgroup memory where floats take 16, half the bytes of every load from it, and two
 * products an operation on GPUs that pack them. The 32 products of a block are summed in two halves, all else in float32.
 *
 * Each row of 32 numbers is in units of a power of two, the one below its largest, so that no input and no weight is too
 * large or too small for halves, and rounding to 11 bits is all that is lost. The largest numbers of a block are found
 * while the one before is multiplied: that takes no further barrier, and what is loaded then has time to come.
 */
export function halfTile(tiling: SquareTiling): TileCode {
  const { side, wide, tall } = tiling;
  const outputs = side * wide;
  const rows = outputs + side * tall;
  const weights = passesOf(tiling, outputs);
  const tokens = passesOf(tiling, side * tall);
  const weightRow = (i: number) => `load_row + ${i * weights.reach}u`;
  const tokenRow = (i: number) => `load_row + ${outputs + i * tokens.reach}u`;
  /** For the invocations that have tokens to load. */
  const loading = (statements: readonly string[]) =>
    side * tall >= tokens.reach
      ? statements
      : [`    if (load_row < ${side * tall}u) {`, ...statements.map((line) => `  ${line}`), "    }"];
  const ahead = (block: string) => [
    ...each(weights.passes, (i) => [
      `    weights${i} = weights_at(matrix${i} + ${block}, part);`,
      `    largest[4u * (${weightRow(i)}) + part] = largest_of(weights${i});`,
    ]).flat(),
    ...loading(
      each(tokens.passes, (i) => [
        `    tokens${i} = Quarter(input_at(input${i}, 8u * ${block} + lo), input_at(input${i}, 8u * ${block} + hi));`,
        `    largest[4u * (${tokenRow(i)}) + part] = largest_of(tokens${i});`,
      ]).flat(),
    ),
  ];
  return {
    declared: `
// Rows of eight vectors, those of weights first. Rows and vectors change places by the row's number, so that neighbours
// do not meet in one bank: a row has half of the banks, and the row next to it the others.
var<workgroup> tile: array<vec4<f16>, ${8 * rows}>;
// Of each row: the largest numbers of the next block's quarters, and the unit that this block is in.
var<workgroup> largest: array<f32, ${4 * rows}>;
var<workgroup> units: array<f32, ${rows}>;

fn place(row: u32, vector: u32) -> u32 {
  return (row ^ ((row / ${8 * wide}u) & 1u)) * 8u + (vector ^ ((row / ${wide}u) & 7u));
}

fn largest_of(quarter: Quarter) -> f32 {
  let both = max(abs(quarter.lo), abs(quarter.hi));
  return max(max(both.x, both.y), max(both.z, both.w));
}

fn put(row: u32, lo: u32, hi: u32, quarter: Quarter, lift: f32) {
  let first = max(largest[4u * row], largest[4u * row + 1u]);
  let second = max(largest[4u * row + 2u], largest[4u * row + 3u]);
  // The bits of the power of two below the largest, from 2^-100 to 2^126: it and its inverse are normal numbers.
  let power = clamp(bitcast<u32>(max(first, second)) & 0x7f800000u, ${27 << 23}u, ${253 << 23}u);
  let inverse = lift * bitcast<f32>(${254 << 23}u - power);
  tile[place(row, lo)] = vec4<f16>(inverse * quarter.lo);
  tile[place(row, hi)] = vec4<f16>(inverse * quarter.hi);
  if (lo == 0u) {
    units[row] = bitcast<f32>(power) / lift;
  }
}`,
    begin: lines(
      each(weights.passes, (i) => `  var weights${i}: Quarter;`),
      each(tokens.passes, (i) => `  var tokens${i}: Quarter;`),
      ahead("0u").map((line) => line.slice(2)),
      "  workgroupBarrier();",
    ),
    fill: lines(
      each(weights.passes, (i) => `    put(${weightRow(i)}, lo, hi, weights${i}, 1.0);`),
      loading(each(tokens.passes, (i) => `    put(${tokenRow(i)}, lo, hi, tokens${i}, ${LIFT}.0);`)),
    ),
    multiply: lines(
      "    let next = min(block + 1u, blocks - 1u);",
      ahead("next"),
      each(tall, (t) => each(wide, (n) => `    var half${t}_${n} = vec2<f16>();`)).flat(),
      "    for (var vector = 0u; vector < 8u; vector++) {",
      each(wide, (n) => `      let weight${n} = tile[place(across * ${wide}u + ${n}u, vector)];`),
      each(tall, (t) => [
        `      let token${t} = tile[place(${outputs}u + down * ${tall}u + ${t}u, vector)];`,
        ...each(wide, (n) => [
          `      half${t}_${n} += token${t}.xy * weight${n}.xy;`,
          `      half${t}_${n} += token${t}.zw * weight${n}.zw;`,
        ]).flat(),
      ]).flat(),
      "    }",
      each(wide, (n) => `    let weight_unit${n} = units[across * ${wide}u + ${n}u];`),
      each(tall, (t) => `    let token_unit${t} = units[${outputs}u + down * ${tall}u + ${t}u];`),
      each(tall, (t) => each(wide, (n) => addBlock(`${t}_${n}`, `weight_unit${n} * token_unit${t}`))).flat(),
    ),
  };
}

function addBlock(sum: string, unit: string): string {
  return `    sum${sum} += (f32(half${sum}.x) + f32(half${sum}.y)) * (${unit});`;
}
