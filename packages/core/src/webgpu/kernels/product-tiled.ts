import type { Capabilities, Dispatch, Kernel } from "../kernel.ts";
import { declareKernel, each, lines, memoised } from "./declare.ts";
import { READERS, weightsOf } from "./dequantise.ts";
import {
  inputWgsl,
  nameOf,
  PRODUCT_UNIFORMS,
  productBuffers,
  productKey,
  productStorage,
  productUniforms,
  storeWgsl,
  type Product,
  type ProductKey,
} from "./product.ts";

const kernelOf = memoised(tiledProductKernel);

/**
 * Products with many input rows: side × side invocations have a tile of side · tall tokens and side · wide outputs,
 * tall × wide sums each, and 32 columns of both in workgroup memory at a time, dequantised.
 */
export interface TilePlan {
  readonly side: 8 | 16;
  /** Outputs of an invocation; even, so that it has both rows of a pair of gate and up. */
  readonly wide: number;
  /** Tokens of an invocation. */
  readonly tall: number;
}

/** Low tiles where high ones would leave most of a device idle; 16 KiB at most, what every device has. */
export function planTiledProduct(shape: { readonly tokens: number; readonly rows: number }): TilePlan {
  const tiles = (tall: number) => Math.ceil(shape.tokens / (16 * tall)) * Math.ceil(shape.rows / 64);
  return { side: 16, wide: 4, tall: [4, 2].find((tall) => shape.tokens > 8 * tall && tiles(tall) >= 128) ?? 1 };
}

/** @throws LongctxError "config" when 4 does not divide the columns */
export function tiledProduct(product: Product, capabilities: Capabilities, given?: TilePlan): Dispatch {
  const key = productKey(product);
  if (key.norm) throw new Error("A tiled product does not normalise its input.");
  const { matrix, tokens } = product;
  const plan = given ?? planTiledProduct({ tokens, rows: matrix.rows });
  const across = Math.ceil(matrix.rows / (plan.side * plan.wide));
  const most = capabilities.maxWorkgroupsPerDimension;
  return {
    kernel: kernelOf(key, plan),
    buffers: productBuffers(product),
    uniforms: productUniforms(product),
    workgroups: [Math.min(across, most), Math.ceil(tokens / (plan.side * plan.tall)), Math.ceil(across / most)],
  };
}

export function tiledProductKernel(key: ProductKey, { side, wide, tall }: TilePlan): Kernel {
  const reader = READERS[key.type];
  const sums = each(tall, (t) => each(wide, (n) => [t, n] as const)).flat();
  // In one pass over the rows of a tile, a quarter of a block for each invocation, so many of them are loaded.
  const reach = (side * side) / 4;
  const passes = (rows: number) => Math.ceil(rows / reach);
  const store = (t: number, n: number) => {
    if (!key.activation) return `  store(row + ${n}u, token + ${t}u, sum${t}_${n});`;
    return n % 2 === 0 ? `  store(row + ${n}u, token + ${t}u, sum${t}_${n}, sum${t}_${n + 1});` : "";
  };
  return declareKernel({
    name: nameOf(key, "tiles", side, wide, tall),
    storage: productStorage(key, reader),
    uniforms: PRODUCT_UNIFORMS,
    body: `
${reader.wgsl}${weightsOf(reader)}${inputWgsl(key)}${storeWgsl(key)}
// Rows of eight vectors; a row's vectors change places by its number, so that neighbours do not meet in one bank.
var<workgroup> tokens: array<vec4<f32>, ${side * tall * 8}>;
var<workgroup> weights: array<vec4<f32>, ${side * wide * 8}>;

fn place(row: u32, vector: u32) -> u32 {
  return row * 8u + (vector ^ ((row / ${wide}u) & 7u));
}

@compute @workgroup_size(${side * side})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) own: u32,
) {
  let group_row = (group.x + group.z * groups.x) * ${side * wide}u;
  if (group_row >= uniforms.rows) {
    return;
  }
  let group_token = group.y * ${side * tall}u;
  let across = own % ${side}u;
  let down = own / ${side}u;
  let blocks = (uniforms.columns + 7u) / 8u;
  // What an invocation loads: the same quarter of a block in some rows of each tile.
  let part = own % 4u;
  let load_row = own / 4u;
  let lo = ${reader.columnsOf[0]};
  let hi = ${reader.columnsOf[1]};
${lines(
  each(
    passes(side * wide),
    (i) => `  let matrix${i} = min(group_row + load_row + ${i * reach}u, uniforms.rows - 1u) * blocks;`,
  ),
  each(
    passes(side * tall),
    (i) =>
      `  let input${i} = uniforms.input_offset + min(group_token + load_row + ${i * reach}u, uniforms.tokens - 1u) * uniforms.input_stride;`,
  ),
  sums.map(([t, n]) => `  var sum${t}_${n} = 0.0;`),
)}
  for (var block = 0u; block < blocks; block++) {
${lines(
  each(passes(side * wide), (i) => [
    `    let loaded${i} = weights_at(matrix${i} + block, part);`,
    `    weights[place(load_row + ${i * reach}u, lo)] = loaded${i}.lo;`,
    `    weights[place(load_row + ${i * reach}u, hi)] = loaded${i}.hi;`,
  ]).flat(),
  `    ${side * tall < reach ? `if (load_row < ${side * tall}u) {` : "{"}`,
  each(passes(side * tall), (i) => [
    `      tokens[place(load_row + ${i * reach}u, lo)] = input_at(input${i}, 8u * block + lo);`,
    `      tokens[place(load_row + ${i * reach}u, hi)] = input_at(input${i}, 8u * block + hi);`,
  ]).flat(),
)}
    }
    workgroupBarrier();
    for (var vector = 0u; vector < 8u; vector++) {
${lines(
  each(wide, (n) => `      let weight${n} = weights[place(across * ${wide}u + ${n}u, vector)];`),
  each(tall, (t) => [
    `      let token${t} = tokens[place(down * ${tall}u + ${t}u, vector)];`,
    ...each(wide, (n) => `      sum${t}_${n} += dot(token${t}, weight${n});`),
  ]).flat(),
)}
    }
    workgroupBarrier();
  }
  let row = group_row + across * ${wide}u;
  let token = group_token + down * ${tall}u;
${lines(sums.map(([t, n]) => store(t, n)))}
}`,
  });
}
