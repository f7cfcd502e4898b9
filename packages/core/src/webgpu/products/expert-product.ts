import type { Activation } from "../../model/config.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { inSteps } from "../device/submissions.ts";
import { ACTIVATION_WGSL } from "./activation.ts";
import { declareKernel, memoised } from "../device/declare.ts";
import { READERS } from "./dequantise.ts";
import type { RowTiling } from "../device/tilings.ts";
import { finish, rowTiling, sumsOf, walk } from "./product-row.ts";
import { inputWgsl, nameOf, productStorage, type ProductKey } from "./product.ts";
import type { GpuMatrix } from "../weights/weights-packed.ts";

const kernelOf = memoised(expertProductKernel);

/**
 * Products with the matrices of the experts that `routes` [T, k] names, which lie below one another in one stack. No
 * token waits for the host: a workgroup reads the number of its expert and finds the rows. Two kinds:
 *
 * - gates: input [T, hidden] → output [T · k, F], weight · activation(gate · norm(x)) · (up · norm(x)) of each chosen expert;
 * - downs: input [T · k, F] → output [T, hidden] += Σ_j down of expert j. The weights are in the input already.
 *
 * Each row and expert is a product of its own, so a chunk reads an expert's matrices once for every token that goes
 * through it. Of a stack in parts, each part does the rows it has.
 */
export interface ExpertProduct {
  /** The stack or a part of it. */
  readonly matrix: GpuMatrix;
  /** Rows of one expert: 2F or hidden, a multiple of 4. */
  readonly expertRows: number;
  /** As `routeTokens` leaves them. */
  readonly routes: GpuSlice;
  /** k. */
  readonly perToken: number;
  /** T. */
  readonly tokens: number;
  readonly input: GpuSlice;
  /** Offsets count floats, and that of the input is a multiple of 4. */
  readonly inputOffset?: number;
  readonly output: GpuSlice;
  readonly outputOffset?: number;
  /** Of gates; without them it is a product of downs. */
  readonly gates?: {
    readonly activation: Activation;
    readonly norm: { readonly weight: GpuSlice; readonly epsilon: number };
  };
}

const UNIFORMS = {
  first_slot: "u32",
  expert_rows: "u32",
  per_token: "u32",
  /** Of an input row, in vectors of four, like the offset. */
  columns: "u32",
  input_offset: "u32",
  output_offset: "u32",
  output_stride: "u32",
  /** The part's first row and how many it has. */
  first: "u32",
  rows: "u32",
  epsilon: "f32",
} as const;

export function expertProductKernel(key: ProductKey, tiling: RowTiling): Kernel {
  const { teamSize, teams, rows } = tiling;
  const { activation } = key;
  const storage = [...productStorage(key), ["routes", "vec2<u32>", "read"] as const];
  return declareKernel({
    name: `expert ${nameOf(key, teamSize, teams, rows, tiling.unit)}`,
    storage,
    uniforms: UNIFORMS,
    body: `
${READERS[key.type].wgsl}${inputWgsl(key)}${activation ? storeGated(activation) : STORE_SUM}
${teamSize > 1 ? `var<workgroup> partials: array<f32, ${sumsOf(key, tiling).length * teamSize * teams}>;` : ""}

// Where a row of the expert that a slot names lies in this part; beyond its rows when another part has it.
fn place_of(slot: u32, row: u32) -> u32 {
  let place = routes[slot].x * uniforms.expert_rows + row - uniforms.first;
  return select(place, uniforms.rows, row >= uniforms.expert_rows);
}

@compute @workgroup_size(${teamSize * teams})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) own: u32,
) {
  let group_row = (group.x + group.y * groups.x) * ${rows * teams}u;
  if (group_row >= uniforms.expert_rows) {
    return;
  }
  let first = group_row + (own / ${teamSize}u) * ${rows}u;
  let lane = own % ${teamSize}u;
  // A slot is one of the k experts of a token; gates have an output row for each, downs sum up those of a token. What
  // is shared with other products calls an output row a token.
  let token = uniforms.first_slot + group.z;
  let blocks = (uniforms.columns + 7u) / 8u;
${sumsOf(key, tiling)
  .map((sum) => `  var ${sum} = 0.0;`)
  .join("\n")}
  ${activation ? "let begin = token;\n  let end = token + 1u;" : "let begin = token * uniforms.per_token;\n  let end = begin + uniforms.per_token;"}
  for (var slot = begin; slot < end; slot++) {
    let place = place_of(slot, first);
    if (place >= uniforms.rows) {
      continue;
    }
${Array.from({ length: rows }, (_, r) => `    let matrix${r} = (place + ${r}u) * blocks;`).join("\n")}
    let input0 = uniforms.input_offset + ${activation ? "slot / uniforms.per_token" : "slot"} * uniforms.columns;
${walk(key, tiling, READERS[key.type])}
  }
${finish(key, tiling)}
}`,
  });
}

/** Gates have an output row for each slot. */
function storeGated(activation: Activation): string {
  return `${ACTIVATION_WGSL[activation]}
fn store(row: u32, slot: u32, gate: f32, up: f32) {
  if (place_of(slot, row) >= uniforms.rows) {
    return;
  }
  let weight = bitcast<f32>(routes[slot].y);
  output[uniforms.output_offset + slot * uniforms.output_stride + row / 2u] = weight * activate(gate) * up;
}
`;
}

const STORE_SUM = `
fn store(row: u32, token: u32, value: f32) {
  if (row < uniforms.expert_rows) {
    output[uniforms.output_offset + token * uniforms.output_stride + row] += value;
  }
}
`;

/** One dispatch, or some where a chunk has more rows than a device has workgroups, or is too much work for one. */
export function expertProduct(product: ExpertProduct, capabilities: Capabilities, given?: RowTiling): Dispatch[] {
  const { matrix, expertRows, routes, perToken, tokens, input, inputOffset = 0, output, outputOffset = 0 } = product;
  const { gates } = product;
  if (matrix.columns % 4 !== 0 || inputOffset % 4 !== 0 || expertRows % 4 !== 0)
    throw new Error(`An expert of ${expertRows} × ${matrix.columns}, read from ${inputOffset} on, is not aligned.`);
  const key: ProductKey = {
    type: matrix.type,
    norm: gates !== undefined,
    bias: false,
    add: gates === undefined,
    activation: gates?.activation ?? null,
    cap: false,
    ragged: matrix.columns % 32 !== 0,
  };
  const tiling = given ?? rowTiling(key, { tokens: 1, rows: expertRows, blocks: matrix.blocks }, capabilities);
  const optional = [matrix.scales, gates?.norm.weight].filter((slice) => slice !== null && slice !== undefined);
  const [x, y] = spread(Math.ceil(expertRows / (tiling.rows * tiling.teams)), capabilities);
  const slots = gates ? tokens * perToken : tokens;
  const work = (gates ? 1 : perToken) * expertRows * matrix.columns; // of a slot
  const steps = tokens > 1 ? inSteps(slots, slots * work).length : 1;
  const most = Math.min(capabilities.maxWorkgroupsPerDimension, Math.ceil(slots / steps));
  return Array.from({ length: Math.ceil(slots / most) }, (_, i) => ({
    kernel: kernelOf(key, tiling),
    buffers: [matrix.codes, input, output, ...optional, routes],
    uniforms: [
      i * most,
      expertRows,
      perToken,
      matrix.columns / 4,
      inputOffset / 4,
      outputOffset,
      gates ? expertRows / 2 : expertRows,
      matrix.first,
      matrix.rows,
      gates?.norm.epsilon ?? 0,
    ],
    workgroups: [x, y, Math.min(most, slots - i * most)] as const,
    work: tokens > 1 ? Math.min(most, slots - i * most) * work : undefined,
  }));
}
