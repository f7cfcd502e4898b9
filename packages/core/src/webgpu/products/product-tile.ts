import { each, lines } from "../device/declare.ts";
import type { SquareTiling } from "../device/tilings.ts";

/** How a block of 32 columns gets into workgroup memory and is multiplied there, in statements of `main`. */
export interface TileCode {
  /** Workgroup memory and functions. */
  readonly declared: string;
  /** Before the first block. */
  readonly begin?: string;
  /** Brings the block into workgroup memory. */
  readonly fill: string;
  /** When it is there for all: adds its products to `sum<t>_<n>`. */
  readonly multiply: string;
}

/** Rows that all invocations load in one pass, a quarter of a block each, and how many passes so many rows take. */
export function passesOf({ side }: SquareTiling, rows: number): { readonly reach: number; readonly passes: number } {
  const reach = (side * side) / 4;
  return { reach, passes: Math.ceil(rows / reach) };
}

/** Bytes of workgroup memory: 32 columns a row, and five floats beside them where they are halves. */
export function tileMemory({ side, wide, tall, half }: SquareTiling): number {
  return side * (wide + tall) * (half ? 32 * 2 + 5 * 4 : 32 * 4);
}

export function floatTile(tiling: SquareTiling): TileCode {
  const { side, wide, tall } = tiling;
  const weights = passesOf(tiling, side * wide);
  const tokens = passesOf(tiling, side * tall);
  return {
    declared: `
// Rows of eight vectors; a row's vectors change places by its number, so that neighbours do not meet in one bank.
var<workgroup> tokens: array<vec4<f32>, ${side * tall * 8}>;
var<workgroup> weights: array<vec4<f32>, ${side * wide * 8}>;

fn place(row: u32, vector: u32) -> u32 {
  return row * 8u + (vector ^ ((row / ${wide}u) & 7u));
}`,
    fill: lines(
      each(weights.passes, (i) => [
        `    let loaded${i} = weights_at(matrix${i} + block, part);`,
        `    weights[place(load_row + ${i * weights.reach}u, lo)] = loaded${i}.lo;`,
        `    weights[place(load_row + ${i * weights.reach}u, hi)] = loaded${i}.hi;`,
      ]).flat(),
      `    ${side * tall < tokens.reach ? `if (load_row < ${side * tall}u) {` : "{"}`,
      each(tokens.passes, (i) => [
        `      tokens[place(load_row + ${i * tokens.reach}u, lo)] = input_at(input${i}, 8u * block + lo);`,
        `      tokens[place(load_row + ${i * tokens.reach}u, hi)] = input_at(input${i}, 8u * block + hi);`,
      ]).flat(),
      "    }",
    ),
    multiply: lines(
      "    for (var vector = 0u; vector < 8u; vector++) {",
      each(wide, (n) => `      let weight${n} = weights[place(across * ${wide}u + ${n}u, vector)];`),
      each(tall, (t) => [
        `      let token${t} = tokens[place(down * ${tall}u + ${t}u, vector)];`,
        ...each(wide, (n) => `      sum${t}_${n} += dot(token${t}, weight${n});`),
      ]).flat(),
      "    }",
    ),
  };
}
