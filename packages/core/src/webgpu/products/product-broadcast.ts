import type { BroadcastTiling } from "../device/tilings.ts";
import { equalSubgroups, spread, type Capabilities, type Dispatch, type Kernel } from "../device/kernel.ts";
import { each, lines, memoised } from "../device/declare.ts";
import { READERS, weightsOf } from "./dequantise.ts";
import { declareProduct, dispatchProduct, productKey, type Product, type ProductKey } from "./product.ts";

const kernelOf = memoised(broadcastProductKernel);

/**
 * Products with many input rows where loads are dear and a subgroup is a vector of the processor: every invocation
 * loads matrix rows of its own and an input row of its own, and its subgroup passes the input rows on. Nothing goes
 * through workgroup memory, and a load serves `subgroupSize` times as many sums as there.
 */

/** Rows of the input from which on a larger kernel is worth the second more that it takes to compile. */
const MANY = 64;

/** Null where subgroups are not of one known size, or where a device has workgroup memory that is worth its name. */
export function broadcastTiling(
  { type }: Pick<ProductKey, "type">,
  { tokens }: { readonly tokens: number },
  { software, subgroups }: Pick<Capabilities, "software" | "subgroups">,
): BroadcastTiling | null {
  const subgroupSize = equalSubgroups({ subgroups });
  if (!software || subgroupSize === null) return null;
  // Where one load brings a block of a row, most loads are of the input, and more rows share them.
  const rows = READERS[type].preload && tokens >= MANY ? 4 : 2;
  return { subgroupSize, rows, tokens: 16 / subgroupSize };
}

/** @throws LongctxError "config" when 4 does not divide the columns */
export function broadcastProduct(product: Product, capabilities: Capabilities, tiling: BroadcastTiling): Dispatch {
  const key = productKey(product);
  if (key.norm) throw new Error("Only products by rows normalise their input.");
  const { matrix, tokens } = product;
  const [x, y] = spread(Math.ceil(matrix.rows / (tiling.subgroupSize * tiling.rows)), capabilities);
  return dispatchProduct(kernelOf(key, tiling), product, [
    x,
    y,
    Math.ceil(tokens / (tiling.subgroupSize * tiling.tokens)),
  ]);
}

export function broadcastProductKernel(key: ProductKey, { subgroupSize, rows, tokens }: BroadcastTiling): Kernel {
  const reader = READERS[key.type];
  const { preload } = reader;
  const sums = each(tokens * subgroupSize, (t) => each(rows, (r) => `sum${r}_${t}`));
  const codes = (r: number) =>
    preload ? preload.quarter(`loaded${r}`, `block${r}`, "part") : `quarter_at(block${r}, part)`;
  const multiply = (half: "lo" | "hi") =>
    each(tokens, (t) => [
      `      let ${half}${t} = input_at(input${t}, 8u * block + ${reader.columnsOf[half === "lo" ? 0 : 1]});`,
      ...each(subgroupSize, (invocation) => [
        "      {",
        `        let values = subgroupBroadcast(${half}${t}, ${invocation}u);`,
        ...each(rows, (r) => `        sum${r}_${t * subgroupSize + invocation} += dot(w${r}.${half}, values);`),
        "      }",
      ]).flat(),
    ]).flat();
  return declareProduct(key, ["broadcast", subgroupSize, rows, tokens], {
    features: ["subgroups"],
    body: `
${weightsOf(reader)}
@compute @workgroup_size(${subgroupSize})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(subgroup_invocation_id) own: u32,
) {
  let group_row = (group.x + group.y * groups.x) * ${subgroupSize * rows}u;
  if (group_row >= uniforms.rows) {
    return;
  }
  let first = group_row + own * ${rows}u;
  let token = group.z * ${subgroupSize * tokens}u;
  let blocks = (uniforms.columns + 7u) / 8u;
${lines(
  each(rows, (r) => `  let matrix${r} = min(first + ${r}u, uniforms.rows - 1u) * blocks;`),
  each(
    tokens,
    (t) =>
      `  let input${t} = uniforms.input_offset + min(token + ${t * subgroupSize}u + own, uniforms.tokens - 1u) * uniforms.input_stride;`,
  ),
  sums.flat().map((sum) => `  var ${sum} = 0.0;`),
)}
  for (var block = 0u; block < blocks; block++) {
${lines(
  each(rows, (r) => `    let block${r} = matrix${r} + block;`),
  preload && each(rows, (r) => `    let loaded${r} = ${preload.load(`block${r}`)};`),
  reader.scaled && each(rows, (r) => `    let scale${r} = scales_at(block${r});`),
)}
    let parts = min(4u, (uniforms.columns - 8u * block + 1u) / 2u);
    for (var part = 0u; part < parts; part++) {
${lines(
  each(rows, (r) => `      let w${r} = ${reader.scaled ? `scaled(${codes(r)}, scale${r})` : codes(r)};`),
  multiply("lo"),
  multiply("hi"),
)}
    }
  }
${lines(
  sums.flatMap((of, t) =>
    key.activation
      ? each(rows / 2, (r) => `  store(first + ${2 * r}u, token + ${t}u, ${of[2 * r]}, ${of[2 * r + 1]});`)
      : of.map((sum, r) => `  store(first + ${r}u, token + ${t}u, ${sum});`),
  ),
)}
}`,
  });
}
