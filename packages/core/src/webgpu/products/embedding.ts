import type { TensorType } from "../../model/weights.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { declareKernel, memoised } from "../device/declare.ts";
import { READERS, weightsOf } from "./dequantise.ts";
import type { GpuMatrix } from "../weights/weights-packed.ts";

const kernelOf = memoised(embeddingKernel);

/**
 * Rows of a packed matrix [V, hidden], dequantised: output[t] = scale · matrix[ids[t]]. Of a matrix in parts, each part
 * writes the rows it has.
 */
export function embeddingKernel(type: TensorType): Kernel {
  const reader = READERS[type];
  return declareKernel({
    name: `embedding ${type}`,
    storage: [
      ["codes", reader.element, "read"],
      ["ids", "u32", "read"],
      ["output", "vec4<f32>", "write"],
      ...(reader.scaled ? ([["scales", "u32", "read"]] as const) : []),
    ],
    uniforms: { tokens: "u32", first: "u32", rows: "u32", columns: "u32", scale: "f32" },
    body: `
${reader.wgsl}${weightsOf(reader)}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = id.x + id.y * groups.x * 64u;
  let quarters = ((uniforms.columns + 7u) / 8u) * 4u;
  let token = at / quarters;
  if (token >= uniforms.tokens) {
    return;
  }
  // Below the part's first row the difference is beyond its last.
  let row = ids[token] - uniforms.first;
  if (row >= uniforms.rows) {
    return;
  }
  let block = (at % quarters) / 4u;
  let part = at % 4u;
  let weights = weights_at(row * (quarters / 4u) + block, part);
  let lo = 8u * block + ${reader.columnsOf[0]};
  let hi = 8u * block + ${reader.columnsOf[1]};
  if (lo < uniforms.columns) {
    output[token * uniforms.columns + lo] = uniforms.scale * weights.lo;
  }
  if (hi < uniforms.columns) {
    output[token * uniforms.columns + hi] = uniforms.scale * weights.hi;
  }
}`,
  });
}

export interface Embedding {
  readonly matrix: GpuMatrix;
  /** [T], of 32 bits. */
  readonly ids: GpuSlice;
  /** T. */
  readonly tokens: number;
  /** [T, hidden] */
  readonly output: GpuSlice;
  /** 1 unless given. */
  readonly scale?: number;
}

export function embed(work: Embedding, capabilities: Capabilities): Dispatch {
  const { matrix, ids, tokens, output, scale = 1 } = work;
  const { type, codes, scales, first, rows, columns, blocks } = matrix;
  return {
    kernel: kernelOf(type),
    buffers: [codes, ids, output, ...(scales ? [scales] : [])],
    uniforms: [tokens, first, rows, columns / 4, scale],
    workgroups: spread(Math.ceil((tokens * blocks * 4) / 64), capabilities),
  };
}
