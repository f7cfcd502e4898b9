import type { Precision } from "../../backend/backend.ts";
import type { Capabilities, Dispatch, Kernel } from "../device/kernel.ts";
import { each, lines, memoised } from "../device/declare.ts";
import { READERS, weightsOf } from "./dequantise.ts";
import { halfTile } from "./product-half-tile.ts";
import type { SquareTiling } from "../device/tilings.ts";
import { floatTile, passesOf } from "./product-tile.ts";
import { declareProduct, dispatchProduct, productKey, type Product, type ProductKey } from "./product.ts";

const kernelOf = memoised(tiledProductKernel);

/** A processor has no halves: it would make every one a float and back, operation by operation. */
export function multipliesHalves(
  precision: Precision | undefined,
  { f16, software }: Pick<Capabilities, "f16" | "software">,
): boolean {
  return precision === "fast" && f16 && !software;
}

/** Low tiles where high ones would leave most of a device idle; 16 KiB at most, what every device has. */
export function squareTiling(
  shape: { readonly tokens: number; readonly rows: number; readonly precision?: Precision },
  capabilities: Pick<Capabilities, "f16" | "software">,
): SquareTiling {
  const tiles = (tall: number) => Math.ceil(shape.tokens / (16 * tall)) * Math.ceil(shape.rows / 64);
  const tall = [4, 2].find((some) => shape.tokens > 8 * some && tiles(some) >= 128) ?? 1;
  const tiling = { side: 16, wide: 4, tall } as const;
  return multipliesHalves(shape.precision, capabilities) ? { ...tiling, half: true } : tiling;
}

/** @throws LongctxError "config" when 4 does not divide the columns */
export function tiledProduct(product: Product, capabilities: Capabilities, given?: SquareTiling): Dispatch {
  const key = productKey(product);
  if (key.norm) throw new Error("A tiled product does not normalise its input.");
  const { matrix, tokens, precision } = product;
  const tiling = given ?? squareTiling({ tokens, rows: matrix.rows, precision }, capabilities);
  const across = Math.ceil(matrix.rows / (tiling.side * tiling.wide));
  const down = Math.ceil(tokens / (tiling.side * tiling.tall));
  const most = capabilities.maxWorkgroupsPerDimension;
  return dispatchProduct(kernelOf(key, tiling), product, [Math.min(across, most), down, Math.ceil(across / most)]);
}

export function tiledProductKernel(key: ProductKey, tiling: SquareTiling): Kernel {
  const { side, wide, tall, half } = tiling;
  const reader = READERS[key.type];
  const tile = half ? halfTile(tiling) : floatTile(tiling);
  const sums = each(tall, (t) => each(wide, (n) => [t, n] as const)).flat();
  const weights = passesOf(tiling, side * wide);
  const tokens = passesOf(tiling, side * tall);
  const store = (t: number, n: number) => {
    if (!key.activation) return `  store(row + ${n}u, token + ${t}u, sum${t}_${n});`;
    return n % 2 === 0 ? `  store(row + ${n}u, token + ${t}u, sum${t}_${n}, sum${t}_${n + 1});` : "";
  };
  return declareProduct(key, ["tiles", side, wide, tall, half ? "half" : ""], {
    features: half ? ["shader-f16"] : [],
    body: `
${weightsOf(reader)}${tile.declared}

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
    weights.passes,
    (i) => `  let matrix${i} = min(group_row + load_row + ${i * weights.reach}u, uniforms.rows - 1u) * blocks;`,
  ),
  each(
    tokens.passes,
    (i) =>
      `  let input${i} = uniforms.input_offset + min(group_token + load_row + ${i * tokens.reach}u, uniforms.tokens - 1u) * uniforms.input_stride;`,
  ),
  sums.map(([t, n]) => `  var sum${t}_${n} = 0.0;`),
  tile.begin,
)}
  for (var block = 0u; block < blocks; block++) {
${tile.fill}
    workgroupBarrier();
${tile.multiply}
    workgroupBarrier();
  }
  let row = group_row + across * ${wide}u;
  let token = group_token + down * ${tall}u;
${lines(sums.map(([t, n]) => store(t, n)))}
}`,
  });
}
