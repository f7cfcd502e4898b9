import { equalSubgroups, spread, type Capabilities, type Dispatch, type Kernel } from "../device/kernel.ts";
import { each, lines, memoised } from "../device/declare.ts";
import { READERS, type WeightReader } from "./dequantise.ts";
import { declareProduct, dispatchProduct, productKey, type Product, type ProductKey } from "./product.ts";

const kernelOf = memoised(rowProductKernel);

/**
 * Products with few input rows: a matrix is read once, by lanes that walk along its rows and sum up at the end. The
 * RMS norm of the input costs no pass of its own: y = (W · (gain ∘ x)) / √(mean(x²) + ε), and whoever reads all of x for
 * the product sums its squares as well.
 */
export interface RowPlan {
  /** Invocations that share a row; 1 has no sum over invocations. */
  readonly lanes: number;
  /** Such teams in a workgroup. */
  readonly teams: number;
  /** Matrix rows and input rows that an invocation has in registers. */
  readonly rows: number;
  readonly tokens: number;
  /** What a lane takes at a time: a block of 32 columns, or a quarter of it where a row has few blocks. */
  readonly unit: "block" | "quarter";
  /**
   * The size of all subgroups, for `lanes` 1, as many teams and whole blocks: an invocation loads one vector of the
   * input in so many, and its subgroup passes it on.
   */
  readonly broadcast?: 4 | 8;
}

export function planRowProduct(
  { type, activation }: ProductKey,
  shape: { readonly tokens: number; readonly rows: number; readonly blocks: number },
  { software }: Pick<Capabilities, "software">,
): RowPlan {
  const tokens = shape.tokens === 1 ? 1 : shape.tokens < 4 ? 2 : 4;
  // On a processor, lanes next to each other are one vector: with a row for each there is nothing to sum across.
  if (software) return { lanes: 1, teams: 8, rows: activation ? 2 : 1, tokens, unit: "block" };
  const unit = type === "F32" || shape.blocks < 64 ? "quarter" : "block";
  const units = unit === "quarter" ? shape.blocks * 4 : shape.blocks;
  const lanes = units >= 64 ? 32 : units >= 16 ? 16 : 8;
  return { lanes, teams: 128 / lanes, rows: activation ? 2 : shape.rows >= 8192 ? 2 : 1, tokens, unit };
}

/** Where loads are dear and subgroups are of one small size: the plan with the input loaded once a subgroup. */
export function withBroadcast(plan: RowPlan, capabilities: Capabilities): RowPlan {
  const broadcast = equalSubgroups(capabilities);
  return capabilities.software && broadcast && plan.lanes === 1 ? { ...plan, teams: broadcast, broadcast } : plan;
}

export function rowProduct(product: Product, capabilities: Capabilities, given?: RowPlan): Dispatch {
  const key = productKey(product);
  const { matrix, tokens } = product;
  const shape = { tokens, rows: matrix.rows, blocks: matrix.blocks };
  const plan = given ?? withBroadcast(planRowProduct(key, shape, capabilities), capabilities);
  const [x, y] = spread(Math.ceil(matrix.rows / (plan.rows * plan.teams)), capabilities);
  return dispatchProduct(kernelOf(key, plan), product, [x, y, Math.ceil(tokens / plan.tokens)]);
}

export function rowProductKernel(key: ProductKey, plan: RowPlan): Kernel {
  const { lanes, teams, rows, tokens, unit, broadcast } = plan;
  return declareProduct(key, ["rows", lanes, teams, rows, tokens, broadcast ? "broadcast" : unit], {
    features: broadcast ? ["subgroups"] : [],
    body: `
${lanes > 1 ? `var<workgroup> partials: array<f32, ${sumsOf(key, plan).length * lanes * teams}>;` : ""}
@compute @workgroup_size(${lanes * teams})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(${broadcast ? "subgroup_invocation_id" : "local_invocation_index"}) own: u32,
) {
  let group_row = (group.x + group.y * groups.x) * ${rows * teams}u;
  if (group_row >= uniforms.rows) {
    return;
  }
  let first = group_row + (own / ${lanes}u) * ${rows}u;
  let lane = own % ${lanes}u;
  let token = group.z * ${tokens}u;
  let blocks = (uniforms.columns + 7u) / 8u;
${each(rows, (r) => `  let matrix${r} = min(first + ${r}u, uniforms.rows - 1u) * blocks;`).join("\n")}
${each(tokens, (t) => `  let input${t} = uniforms.input_offset + min(token + ${t}u, uniforms.tokens - 1u) * uniforms.input_stride;`).join("\n")}
${sumsOf(key, plan)
  .map((sum) => `  var ${sum} = 0.0;`)
  .join("\n")}
${walk(key, plan, READERS[key.type])}
${finish(key, plan)}
}`,
  });
}

/** The sums an invocation ends with; those of squares come last. */
export function sumsOf({ norm }: ProductKey, { rows, tokens }: RowPlan): string[] {
  return [...pairs({ rows, tokens }, (r, t) => `sum${r}_${t}`), ...(norm ? each(tokens, (t) => `squares${t}`) : [])];
}

function pairs({ rows, tokens }: Pick<RowPlan, "rows" | "tokens">, line: (r: number, t: number) => string): string[] {
  return each(tokens, (t) => each(rows, (r) => line(r, t))).flat();
}

/** A lane's way along its rows: `matrix<r>` and `input<t>` are where they begin, what it finds is added to the sums. */
export function walk(key: ProductKey, plan: RowPlan, reader: WeightReader): string {
  return plan.unit === "block" ? blockLoop(key, plan, reader) : quarterLoop(key, plan, reader);
}

function blockLoop(key: ProductKey, plan: RowPlan, reader: WeightReader): string {
  const { rows } = plan;
  const { preload } = reader;
  return lines(
    `  for (var block = ${plan.lanes === 1 ? "0u" : "lane"}; block < blocks; block += ${plan.lanes}u) {`,
    each(rows, (r) => `    let block${r} = matrix${r} + block;`),
    preload && each(rows, (r) => `    let loaded${r} = ${preload.load(`block${r}`)};`),
    plan.broadcast && sharedInput(key, plan, plan.broadcast),
    scaledSums(plan, reader),
    each(4, (part) =>
      lines(
        "    {",
        quarter(key, plan, reader, reader.columns(part), (r) =>
          preload ? preload.quarter(`loaded${r}`, `block${r}`, part) : `quarter_at(block${r}, ${part}u)`,
        ),
        "    }",
      ),
    ),
    scale(plan, reader),
    "  }",
    plan.broadcast && key.norm && each(plan.tokens, (t) => `  squares${t} = subgroupAdd(squares${t});`),
  );
}

/** A block of the input, one vector an invocation in two or one loads, normalised but for the factor of the whole row. */
function sharedInput({ norm }: ProductKey, { tokens }: RowPlan, size: number): string {
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

function quarterLoop(key: ProductKey, plan: RowPlan, reader: WeightReader): string {
  return lines(
    `  for (var at = lane; at < 4u * blocks; at += ${plan.lanes}u) {`,
    "    let block = at / 4u;",
    "    let part = at % 4u;",
    each(plan.rows, (r) => `    let block${r} = matrix${r} + block;`),
    scaledSums(plan, reader),
    quarter(key, plan, reader, reader.columnsOf, (r) => `quarter_at(block${r}, part)`),
    scale(plan, reader),
    "  }",
  );
}

/** What codes sum up to in a block, where they are scaled. */
function scaledSums(plan: RowPlan, { scaling }: WeightReader): (string | false)[] {
  return [
    ...(scaling === "none" ? [] : pairs(plan, (r, t) => `    var lo${r}_${t} = 0.0;`)),
    ...(scaling === "halves" ? pairs(plan, (r, t) => `    var hi${r}_${t} = 0.0;`) : []),
    ...(scaling === "affine" ? each(plan.tokens, (t) => `    var plain${t} = 0.0;`) : []),
  ];
}

function quarter(
  { norm }: ProductKey,
  plan: RowPlan,
  { scaling }: WeightReader,
  columns: readonly (string | number)[],
  read: (r: number) => string,
): string {
  const { broadcast } = plan;
  const [lo, hi] = columns.map((column) => `8u * block + ${column}${typeof column === "number" ? "u" : ""}`);
  const passedOn = (t: number) =>
    columns.map((column, i) => {
      const [load, lane] = [Math.floor(Number(column) / broadcast!), Number(column) % broadcast!];
      return `      let ${i === 0 ? "lo" : "hi"}_${t} = subgroupBroadcast(shared${t}_${load}, ${lane}u);`;
    });
  const plain = (t: number) => scaling === "affine" && `      plain${t} += dot(lo_${t} + hi_${t}, vec4<f32>(1.0));`;
  const into = (r: number, t: number) => {
    const [low, high] = [`dot(w${r}.lo, lo_${t})`, `dot(w${r}.hi, hi_${t})`];
    if (scaling === "halves") return `      lo${r}_${t} += ${low};\n      hi${r}_${t} += ${high};`;
    return `      ${scaling === "none" ? "sum" : "lo"}${r}_${t} += ${low} + ${high};`;
  };
  return lines(
    norm && !broadcast && [`      let gain_lo = gain[${lo}];`, `      let gain_hi = gain[${hi}];`],
    each(plan.rows, (r) => `      let w${r} = ${read(r)};`),
    each(plan.tokens, (t) =>
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
    pairs(plan, into),
  );
}

function scale(plan: RowPlan, { scaling }: WeightReader): string[] {
  if (scaling === "none") return [];
  const scaled = (r: number, t: number) =>
    ({
      scale: `scale${r} * lo${r}_${t}`,
      affine: `scale${r}.x * lo${r}_${t} + scale${r}.y * plain${t}`,
      halves: `scale${r}.x * lo${r}_${t} + scale${r}.y * hi${r}_${t}`,
    })[scaling];
  return [
    ...each(plan.rows, (r) => `    let scale${r} = scales_at(block${r});`),
    ...pairs(plan, (r, t) => `    sum${r}_${t} += ${scaled(r, t)};`),
  ];
}

/** Sums over the lanes, then what is left to do with each output. */
export function finish(key: ProductKey, plan: RowPlan): string {
  const { lanes, teams, rows, tokens } = plan;
  const { norm, activation } = key;
  const size = lanes * teams;
  const sums = sumsOf(key, plan);
  const total = (i: number) => (lanes === 1 ? sums[i] : `partials[${i * size}u + own]`);
  const add = (reach: number) =>
    lines(
      "  workgroupBarrier();",
      `  if (lane < ${reach}u) {`,
      sums.map((_, i) => `    partials[${i * size}u + own] += partials[${i * size + reach}u + own];`),
      "  }",
    );
  const reaches: number[] = [];
  for (let reach = lanes / 2; reach >= 1; reach /= 2) reaches.push(reach);
  const store = (r: number, t: number) => {
    const value = (row: number) => total(t * rows + row) + (norm ? ` * factor${t}` : "");
    if (!activation) return `    store(first + ${r}u, token + ${t}u, ${value(r)});`;
    return r % 2 === 0 ? `    store(first + ${r}u, token + ${t}u, ${value(r)}, ${value(r + 1)});` : "";
  };
  return lines(
    lanes > 1 && sums.map((sum, i) => `  partials[${i * size}u + own] = ${sum};`),
    reaches.map(add),
    lanes > 1 && "  if (lane == 0u) {",
    norm &&
      each(
        tokens,
        (t) =>
          `    let factor${t} = 1.0 / sqrt(${total(rows * tokens + t)} / (4.0 * f32(uniforms.columns)) + uniforms.epsilon);`,
      ),
    pairs(plan, store),
    lanes > 1 && "  }",
  );
}
