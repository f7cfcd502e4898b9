import type { Capabilities, Dispatch, Kernel } from "../kernel.ts";
import { declareKernel, each, lines } from "./declare.ts";
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

/**
 * Products with many input rows: 16 × 16 invocations have a tile of 16 · `tall` tokens and 64 outputs, `tall` × 4 sums
 * each, and 32 columns of both in workgroup memory at a time, dequantised (16 KiB at most, what every device has).
 */
export interface TilePlan {
  /** Tokens of an invocation: 1, 2 or 4. */
  readonly tall: number;
}

const SIDE = 16;
const WIDE = 4;

/** Low tiles where high ones would leave most of a device idle. */
export function planTiledProduct(shape: { readonly tokens: number; readonly rows: number }): TilePlan {
  const tiles = (tall: number) => Math.ceil(shape.tokens / (SIDE * tall)) * Math.ceil(shape.rows / (SIDE * WIDE));
  return { tall: [4, 2].find((tall) => shape.tokens > (SIDE * tall) / 2 && tiles(tall) >= 128) ?? 1 };
}

/** @throws LongctxError "config" when 4 does not divide the columns */
export function tiledProduct(product: Product, capabilities: Capabilities, given?: TilePlan): Dispatch {
  const key = productKey(product);
  if (key.norm) throw new Error("A tiled product does not normalise its input.");
  const { matrix, tokens } = product;
  const plan = given ?? planTiledProduct({ tokens, rows: matrix.rows });
  const across = Math.ceil(matrix.rows / (SIDE * WIDE));
  const most = capabilities.maxWorkgroupsPerDimension;
  return {
    kernel: tiledProductKernel(key, plan),
    buffers: productBuffers(product),
    uniforms: productUniforms(product),
    workgroups: [Math.min(across, most), Math.ceil(tokens / (SIDE * plan.tall)), Math.ceil(across / most)],
  };
}

export function tiledProductKernel(key: ProductKey, { tall }: TilePlan): Kernel {
  const reader = READERS[key.type];
  const sums = each(tall, (t) => each(WIDE, (n) => [t, n] as const)).flat();
  const store = (t: number, n: number) => {
    if (!key.activation) return `  store(row + ${n}u, token + ${t}u, sum${t}_${n});`;
    return n % 2 === 0 ? `  store(row + ${n}u, token + ${t}u, sum${t}_${n}, sum${t}_${n + 1});` : "";
  };
  return declareKernel({
    name: nameOf(key, "tiles", tall),
    storage: productStorage(key, reader),
    uniforms: PRODUCT_UNIFORMS,
    body: `
${reader.wgsl}${weightsOf(reader)}${inputWgsl(key)}${storeWgsl(key)}
// Rows of eight vectors; a row's vectors change places by its number, so that neighbours do not meet in one bank.
var<workgroup> tokens: array<vec4<f32>, ${SIDE * tall * 8}>;
var<workgroup> weights: array<vec4<f32>, ${SIDE * WIDE * 8}>;

fn place(row: u32, vector: u32) -> u32 {
  return row * 8u + (vector ^ ((row >> 2u) & 7u));
}

@compute @workgroup_size(${SIDE * SIDE})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) own: u32,
) {
  let group_row = (group.x + group.z * groups.x) * ${SIDE * WIDE}u;
  if (group_row >= uniforms.rows) {
    return;
  }
  let group_token = group.y * ${SIDE * tall}u;
  let across = own % ${SIDE}u;
  let down = own / ${SIDE}u;
  let blocks = (uniforms.columns + 7u) / 8u;
  // What an invocation loads: a quarter of a block in one row of each tile.
  let part = own % 4u;
  let load_row = own / 4u;
  let lo = ${reader.columnsOf[0]};
  let hi = ${reader.columnsOf[1]};
  let matrix_row = min(group_row + load_row, uniforms.rows - 1u) * blocks;
  let input_row = uniforms.input_offset
    + min(group_token + load_row, uniforms.tokens - 1u) * uniforms.input_stride;
${sums.map(([t, n]) => `  var sum${t}_${n} = 0.0;`).join("\n")}
  for (var block = 0u; block < blocks; block++) {
    let loaded = weights_at(matrix_row + block, part);
    weights[place(load_row, lo)] = loaded.lo;
    weights[place(load_row, hi)] = loaded.hi;
    ${tall < 4 ? `if (load_row < ${SIDE * tall}u) {` : "{"}
      tokens[place(load_row, lo)] = input_at(input_row, 8u * block + lo);
      tokens[place(load_row, hi)] = input_at(input_row, 8u * block + hi);
    }
    workgroupBarrier();
    for (var vector = 0u; vector < 8u; vector++) {
${lines(
  each(tall, (t) => `      let token${t} = tokens[place(down * ${tall}u + ${t}u, vector)];`),
  each(WIDE, (n) => `      let weight${n} = weights[place(across * ${WIDE}u + ${n}u, vector)];`),
  sums.map(([t, n]) => `      sum${t}_${n} += dot(token${t}, weight${n});`),
)}
    }
    workgroupBarrier();
  }
  let row = group_row + across * ${WIDE}u;
  let token = group_token + down * ${tall}u;
${lines(sums.map(([t, n]) => store(t, n)))}
}`,
  });
}
