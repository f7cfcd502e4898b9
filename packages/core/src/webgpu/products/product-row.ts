import type { RowTiling } from "../device/tilings.ts";
import { equalSubgroups, spread, type Capabilities, type Dispatch, type Kernel } from "../device/kernel.ts";
import { each, lines, memoised } from "../device/declare.ts";
import { READERS, type WeightReader } from "./dequantise.ts";
import { declareProduct, dispatchProduct, productKey, type Product, type ProductKey } from "./product.ts";

const kernelOf = memoised(rowProductKernel);

/**
 * Products with few input rows: a matrix is read once, by teams of invocations that walk along its rows and sum up at the end. The
 * RMS norm of the input costs no pass of its own: y = (W · (gain ∘ x)) / √(mean(x²) + ε), and whoever reads all of x for
 * the product sums its squares as well.
 */

export function rowTiling(
  { type, activation }: ProductKey,
  shape: { readonly tokens: number; readonly rows: number; readonly blocks: number },
  { software }: Pick<Capabilities, "software">,
): RowTiling {
  const tokens = shape.tokens === 1 ? 1 : shape.tokens < 4 ? 2 : 4;
  // A processor computes neighbouring invocations as one vector, so with a row for each there is nothing to sum across.
  if (software) return { teamSize: 1, teams: 8, rows: activation ? 2 : 1, tokens, unit: "block" };
  const unit = type === "F32" || shape.blocks < 64 ? "quarter" : "block";
  const units = unit === "quarter" ? shape.blocks * 4 : shape.blocks;
  const teamSize = units >= 64 ? 32 : units >= 16 ? 16 : 8;
  return { teamSize, teams: 128 / teamSize, rows: activation ? 2 : shape.rows >= 8192 ? 2 : 1, tokens, unit };
}

/** Where loads are dear and subgroups are of one small size: the tiling with the input loaded once a subgroup. */
export function withBroadcast(tiling: RowTiling, capabilities: Capabilities): RowTiling {
  const broadcast = equalSubgroups(capabilities);
  return capabilities.software && broadcast && tiling.teamSize === 1
    ? { ...tiling, teams: broadcast, broadcast }
    : tiling;
}

export function rowProduct(product: Product, capabilities: Capabilities, given?: RowTiling): Dispatch {
  const key = productKey(product);
  const { matrix, tokens } = product;
  const shape = { tokens, rows: matrix.rows, blocks: matrix.blocks };
  const tiling = given ?? withBroadcast(rowTiling(key, shape, capabilities), capabilities);
  const [x, y] = spread(Math.ceil(matrix.rows / (tiling.rows * tiling.teams)), capabilities);
  return dispatchProduct(kernelOf(key, tiling), product, [x, y, Math.ceil(tokens / tiling.tokens)]);
}

export function rowProductKernel(key: ProductKey, tiling: RowTiling): Kernel {
  const { teamSize, teams, rows, tokens, unit, broadcast } = tiling;
  return declareProduct(key, ["rows", teamSize, teams, rows, tokens, broadcast ? "broadcast" : unit], {
    features: broadcast ? ["subgroups"] : [],
    body: `
${teamSize > 1 ? `var<workgroup> partials: array<f32, ${sumsOf(key, tiling).length * teamSize * teams}>;` : ""}
@compute @workgroup_size(${teamSize * teams})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(${broadcast ? "subgroup_invocation_id" : "local_invocation_index"}) own: u32,
) {
  let group_row = (group.x + group.y * groups.x) * ${rows * teams}u;
  if (group_row >= uniforms.rows) {
    return;
  }
  let first = group_row + (own / ${teamSize}u) * ${rows}u;
  let lane = own % ${teamSize}u;
  let token = group.z * ${tokens}u;
  let blocks = (uniforms.columns + 7u) / 8u;
${each(rows, (r) => `  let matrix${r} = min(first + ${r}u, uniforms.rows - 1u) * blocks;`).join("\n")}
${each(tokens, (t) => `  let input${t} = uniforms.input_offset + min(token + ${t}u, uniforms.tokens - 1u) * uniforms.input_stride;`).join("\n")}
${sumsOf(key, tiling)
  .map((sum) => `  var ${sum} = 0.0;`)
  .join("\n")}
${walk(key, tiling, READERS[key.type])}
${finish(key, tiling)}
}`,
  });
}

/** The sums an invocation ends with; those of squares come last. */
export function sumsOf({ norm }: ProductKey, { rows, tokens }: RowTiling): string[] {
  return [...pairs({ rows, tokens }, (r, t) => `sum${r}_${t}`), ...(norm ? each(tokens, (t) => `squares${t}`) : [])];
}

function pairs({ rows, tokens }: Pick<RowTiling, "rows" | "tokens">, line: (r: number, t: number) => string): string[] {
  return each(tokens, (t) => each(rows, (r) => line(r, t))).flat();
}

/** An invocation's way along its rows: `matrix<r>` and `input<t>` are where they begin, what it finds is added to the sums. */
export function walk(key: ProductKey, tiling: RowTiling, reader: WeightReader): string {
  return tiling.unit === "block" ? blockLoop(key, tiling, reader) : quarterLoop(key, tiling, reader);
}

function blockLoop(key: ProductKey, tiling: RowTiling, reader: WeightReader): string {
  const { rows } = tiling;
  const { preload } = reader;
  return lines(
    `  for (var block = ${tiling.teamSize === 1 ? "0u" : "lane"}; block < blocks; block += ${tiling.teamSize}u) {`,
    each(rows, (r) => `    let block${r} = matrix${r} + block;`),
    preload && each(rows, (r) => `    let loaded${r} = ${preload.load(`block${r}`)};`),
    tiling.broadcast && sharedInput(key, tiling, tiling.broadcast),
    scaledSums(tiling, reader),
    each(4, (part) =>
      lines(
        "    {",
        quarter(key, tiling, reader, reader.columns(part), (r) =>
          preload ? preload.quarter(`loaded${r}`, `block${r}`, part) : `quarter_at(block${r}, ${part}u)`,
        ),
        "    }",
      ),
    ),
    scale(tiling, reader),
    "  }",
    tiling.broadcast && key.norm && each(tiling.tokens, (t) => `  squares${t} = subgroupAdd(squares${t});`),
  );
}

/** A block of the input, one vector an invocation in two or one loads, normalised but for the factor of the whole row. */
function sharedInput({ norm }: ProductKey, { tokens }: RowTiling, size: number): string {
  const column = (i: number) => `8u * block + ${i * size}u + own`;
  return lines(
    each(8 / size, (i) => [
      ...each(tokens, (t) => `    ${norm ? "var" : "let"} shared${t}_${i} = input_at(input${t}, ${column(i)});`),
      ...(norm ? [`    let gain${i} = gain[${column(i)}];`] : []),
      ...(norm
        ? each(tokens, (t) => [
            `    squares${t} += dot(shared${t}_${i}, shared${t}_${i});`,
            `    shared${t}_${i} *= gain${i};`,
          ]).flat()
        : []),
    ]).flat(),
  );
}

function quarterLoop(key: ProductKey, tiling: RowTiling, reader: WeightReader): string {
  return lines(
    `  for (var at = lane; at < 4u * blocks; at += ${tiling.teamSize}u) {`,
    "    let block = at / 4u;",
    "    let part = at % 4u;",
    each(tiling.rows, (r) => `    let block${r} = matrix${r} + block;`),
    scaledSums(tiling, reader),
    quarter(key, tiling, reader, reader.columnsOf, (r) => `quarter_at(block${r}, part)`),
    scale(tiling, reader),
    "  }",
  );
}

/** What codes sum up to in a block, where they are scaled. */
function scaledSums(tiling: RowTiling, { scaling }: WeightReader): (string | false)[] {
  return [
    ...(scaling === "none" ? [] : pairs(tiling, (r, t) => `    var lo${r}_${t} = 0.0;`)),
    ...(scaling === "halves" ? pairs(tiling, (r, t) => `    var hi${r}_${t} = 0.0;`) : []),
    ...(scaling === "affine" ? each(tiling.tokens, (t) => `    var plain${t} = 0.0;`) : []),
  ];
}

function quarter(
  { norm }: ProductKey,
  tiling: RowTiling,
  { scaling }: WeightReader,
  columns: readonly (string | number)[],
  read: (r: number) => string,
): string {
  const { broadcast } = tiling;
  const [lo, hi] = columns.map((column) => `8u * block + ${column}${typeof column === "number" ? "u" : ""}`);
  const passedOn = (t: number) =>
    columns.map((column, i) => {
      const [load, invocation] = [Math.floor(Number(column) / broadcast!), Number(column) % broadcast!];
      return `      let ${i === 0 ? "lo" : "hi"}_${t} = subgroupBroadcast(shared${t}_${load}, ${invocation}u);`;
    });
  const plain = (t: number) => scaling === "affine" && `      plain${t} += dot(lo_${t} + hi_${t}, vec4<f32>(1.0));`;
  const into = (r: number, t: number) => {
    const [low, high] = [`dot(w${r}.lo, lo_${t})`, `dot(w${r}.hi, hi_${t})`];
    if (scaling === "halves") return `      lo${r}_${t} += ${low};\n      hi${r}_${t} += ${high};`;
    return `      ${scaling === "none" ? "sum" : "lo"}${r}_${t} += ${low} + ${high};`;
  };
  return lines(
    norm && !broadcast && [`      let gain_lo = gain[${lo}];`, `      let gain_hi = gain[${hi}];`],
    each(tiling.rows, (r) => `      let w${r} = ${read(r)};`),
    each(tiling.tokens, (t) =>
      broadcast
        ? lines(passedOn(t), plain(t))
        : lines(
            `      ${norm ? "var" : "let"} lo_${t} = input_at(input${t}, ${lo});`,
            `      ${norm ? "var" : "let"} hi_${t} = input_at(input${t}, ${hi});`,
            norm && `      squares${t} += dot(lo_${t}, lo_${t}) + dot(hi_${t}, hi_${t});`,
            norm && `      lo_${t} *= gain_lo;\n      hi_${t} *= gain_hi;`,
            plain(t),
          ),
    ),
    pairs(tiling, into),
  );
}

function scale(tiling: RowTiling, { scaling }: WeightReader): string[] {
  if (scaling === "none") return [];
  const scaled = (r: number, t: number) =>
    ({
      scale: `scale${r} * lo${r}_${t}`,
      affine: `scale${r}.x * lo${r}_${t} + scale${r}.y * plain${t}`,
      halves: `scale${r}.x * lo${r}_${t} + scale${r}.y * hi${r}_${t}`,
    })[scaling];
  return [
    ...each(tiling.rows, (r) => `    let scale${r} = scales_at(block${r});`),
    ...pairs(tiling, (r, t) => `    sum${r}_${t} += ${scaled(r, t)};`),
  ];
}

/** The WGSL that sums over each team's invocations and stores the outputs. */
export function finish(key: ProductKey, tiling: RowTiling): string {
  const { teamSize, teams, rows, tokens } = tiling;
  const { norm, activation } = key;
  const size = teamSize * teams;
  const sums = sumsOf(key, tiling);
  const total = (i: number) => (teamSize === 1 ? sums[i] : `partials[${i * size}u + own]`);
  const add = (reach: number) =>
    lines(
      "  workgroupBarrier();",
      `  if (lane < ${reach}u) {`,
      sums.map((_, i) => `    partials[${i * size}u + own] += partials[${i * size + reach}u + own];`),
      "  }",
    );
  const reaches: number[] = [];
  for (let reach = teamSize / 2; reach >= 1; reach /= 2) reaches.push(reach);
  const store = (r: number, t: number) => {
    const value = (row: number) => total(t * rows + row) + (norm ? ` * factor${t}` : "");
    if (!activation) return `    store(first + ${r}u, token + ${t}u, ${value(r)});`;
    return r % 2 === 0 ? `    store(first + ${r}u, token + ${t}u, ${value(r)}, ${value(r + 1)});` : "";
  };
  return lines(
    teamSize > 1 && sums.map((sum, i) => `  partials[${i * size}u + own] = ${sum};`),
    reaches.map(add),
    teamSize > 1 && "  if (lane == 0u) {",
    norm &&
      each(
        tokens,
        (t) =>
          `    let factor${t} = 1.0 / sqrt(${total(rows * tokens + t)} / (4.0 * f32(uniforms.columns)) + uniforms.epsilon);`,
      ),
    pairs(tiling, store),
    teamSize > 1 && "  }",
  );
}
