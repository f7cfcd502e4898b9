import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../kernel.ts";
import { declareKernel, memoised } from "./declare.ts";

const kernelOf = memoised(normKernel);

/** What changes the code of a norm. */
export interface NormKey {
  /** rms: x / √(mean(x²) + ε) · w. layer: (x − mean) / √(variance + ε) · w + b. */
  readonly kind: "rms" | "layer";
  /** The input is a residual stream: `delta` is added to it, in place, before. */
  readonly residual: boolean;
  /** The output is the input's buffer. */
  readonly inPlace: boolean;
  /** What is normalised is added to what the output has. */
  readonly add?: boolean;
}

const SIZE = 64;

/** A workgroup for each row; with the residual read, summed, written back and normalised in one pass. */
export function normKernel({ kind, residual, inPlace, add = false }: NormKey): Kernel {
  const sumOf = (name: string, value: string) => `
  var ${name} = 0.0;
  for (var i = own; i < uniforms.size; i += ${SIZE}u) {
    ${value}
  }
  partials[own] = ${name};
  workgroupBarrier();
  for (var reach = ${SIZE / 2}u; reach > 0u; reach /= 2u) {
    if (own < reach) {
      partials[own] += partials[own + reach];
    }
    workgroupBarrier();
  }
  ${name} = partials[0] / f32(uniforms.size);
  workgroupBarrier();`;
  // The mean of squares about the mean, not the difference of two large numbers.
  const squares = "let x = input[start + i] - mean;\n    mean_square += x * x;";
  const added = residual
    ? `
  for (var i = own; i < uniforms.size; i += ${SIZE}u) {
    input[start + i] += delta[row * uniforms.size + i];
  }`
    : "";
  const target = inPlace ? "input[start + i]" : "output[to + i]";
  return declareKernel({
    name: ["norm", kind, residual ? "residual" : "", inPlace ? "in place" : "", add ? "added" : ""]
      .filter(Boolean)
      .join(" "),
    storage: [
      ["input", "f32", residual || inPlace ? "write" : "read"],
      ["gain", "f32", "read"],
      ...(inPlace ? [] : ([["output", "f32", "write"]] as const)),
      ...(kind === "layer" ? ([["shift", "f32", "read"]] as const) : []),
      ...(residual ? ([["delta", "f32", "read"]] as const) : []),
    ],
    uniforms: {
      rows: "u32",
      size: "u32",
      heads: "u32",
      offset: "u32",
      stride: "u32",
      output_offset: "u32",
      output_stride: "u32",
      epsilon: "f32",
    },
    body: `
var<workgroup> partials: array<f32, ${SIZE}>;

@compute @workgroup_size(${SIZE})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) own: u32,
) {
  let row = group.x + group.y * groups.x;
  if (row >= uniforms.rows) {
    return;
  }
  let token = row / uniforms.heads;
  let head = row % uniforms.heads;
  let start = uniforms.offset + token * uniforms.stride + head * uniforms.size;
${inPlace ? "" : "  let to = uniforms.output_offset + token * uniforms.output_stride + head * uniforms.size;"}${added}
${kind === "layer" ? sumOf("mean", "mean += input[start + i];") : "  let mean = 0.0;"}
${sumOf("mean_square", squares)}
  let factor = 1.0 / sqrt(mean_square + uniforms.epsilon);
  for (var i = own; i < uniforms.size; i += ${SIZE}u) {
    ${target} ${add ? "+=" : "="} (input[start + i] - mean) * factor * gain[i]${kind === "layer" ? " + shift[i]" : ""};
  }
}`,
  });
}

/** Norms of rows [T, size], or of some heads in wider rows [T, stride] (Qwen3's q and k). Numbers count floats. */
export interface Norm {
  readonly kind: NormKey["kind"];
  /** T. */
  readonly tokens: number;
  readonly size: number;
  /** Rows of `size` side by side for each token; 1 unless given. */
  readonly heads?: number;
  readonly input: GpuSlice;
  readonly inputOffset?: number;
  /** From token to token; heads · size unless given. */
  readonly inputStride?: number;
  /** [size] */
  readonly weight: GpuSlice;
  /** [size], of a LayerNorm. */
  readonly bias?: GpuSlice;
  readonly epsilon: number;
  /** [T · heads, size], added to the input before. */
  readonly delta?: GpuSlice;
  /** Null: in place. */
  readonly output: GpuSlice | null;
  readonly outputOffset?: number;
  readonly outputStride?: number;
  /** output += instead of =, for the residual stream. */
  readonly add?: boolean;
}

export function normalise(norm: Norm, capabilities: Capabilities): Dispatch {
  const { kind, tokens, size, heads = 1, input, inputOffset = 0, weight, bias, epsilon, delta, output } = norm;
  if ((kind === "layer") !== (bias !== undefined)) throw new Error("A LayerNorm has a bias, and an RMS norm has none.");
  return {
    kernel: kernelOf({ kind, residual: delta !== undefined, inPlace: output === null, add: norm.add }),
    buffers: [input, weight, output, bias, delta].filter((slice) => slice !== null && slice !== undefined),
    uniforms: [
      tokens * heads,
      size,
      heads,
      inputOffset,
      norm.inputStride ?? heads * size,
      norm.outputOffset ?? 0,
      norm.outputStride ?? heads * size,
      epsilon,
    ],
    workgroups: spread(tokens * heads, capabilities),
  };
}
