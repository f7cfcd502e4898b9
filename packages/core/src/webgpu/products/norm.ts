import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { declareKernel, memoised, workgroupEntry } from "../device/declare.ts";

const kernelOf = memoised(normKernel);

/** What changes the code of a norm. */
export interface NormKey {
  /**
   * rms: x / √(mean(x²) + ε) · w. layer: (x − mean) / √(variance + ε) · w + b, which no decoder on this device asks for
   * yet; only tests do.
   */
  readonly kind: "rms" | "layer";
  /**
   * The input is a residual stream: `delta` is added to it, in place, before. Only tests ask for it: products add to the
   * stream themselves.
   */
  readonly residual: boolean;
  /** What is normalised is added to what the output has. */
  readonly add?: boolean;
}

const SIZE = 64;

/** A workgroup for each row; with the residual read, summed, written back and normalised in one pass. */
export function normKernel({ kind, residual, add = false }: NormKey): Kernel {
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
  return declareKernel({
    name: ["norm", kind, residual ? "residual" : "", add ? "added" : ""].filter(Boolean).join(" "),
    storage: [
      ["input", "f32", residual ? "write" : "read"],
      ["gain", "f32", "read"],
      ["output", "f32", "write"],
      ...(kind === "layer" ? ([["shift", "f32", "read"]] as const) : []),
      ...(residual ? ([["delta", "f32", "read"]] as const) : []),
    ],
    uniforms: {
      rows: "u32",
      size: "u32",
      offset: "u32",
      output_offset: "u32",
      epsilon: "f32",
    },
    body: `
var<workgroup> partials: array<f32, ${SIZE}>;

${workgroupEntry({ threads: SIZE, unit: "row", of: "rows" })}
  let start = uniforms.offset + row * uniforms.size;
  let to = uniforms.output_offset + row * uniforms.size;${added}
${kind === "layer" ? sumOf("mean", "mean += input[start + i];") : "  let mean = 0.0;"}
${sumOf("mean_square", squares)}
  let factor = 1.0 / sqrt(mean_square + uniforms.epsilon);
  for (var i = own; i < uniforms.size; i += ${SIZE}u) {
    output[to + i] ${add ? "+=" : "="} (input[start + i] - mean) * factor * gain[i]${kind === "layer" ? " + shift[i]" : ""};
  }
}`,
  });
}

/** Norms of rows [T, size]; those of heads (Qwen3's q and k) are in `rotate-and-store`. Offsets count floats. */
export interface Norm {
  readonly kind: NormKey["kind"];
  /** T. */
  readonly tokens: number;
  readonly size: number;
  readonly input: GpuSlice;
  readonly inputOffset?: number;
  /** [size] */
  readonly weight: GpuSlice;
  /** [size], of a LayerNorm. */
  readonly bias?: GpuSlice;
  readonly epsilon: number;
  /** [T, size], added to the input before. */
  readonly delta?: GpuSlice;
  /** [T, size] */
  readonly output: GpuSlice;
  readonly outputOffset?: number;
  /** output += instead of =, for the residual stream. */
  readonly add?: boolean;
}

export function normalise(norm: Norm, capabilities: Capabilities): Dispatch {
  const { kind, tokens, size, input, inputOffset = 0, weight, bias, epsilon, delta, output, add } = norm;
  if ((kind === "layer") !== (bias !== undefined)) throw new Error("A LayerNorm has a bias, and an RMS norm has none.");
  return {
    kernel: kernelOf({ kind, residual: delta !== undefined, add }),
    buffers: [input, weight, output, bias, delta].filter((slice) => slice !== undefined),
    uniforms: [tokens, size, inputOffset, norm.outputOffset ?? 0, epsilon],
    workgroups: spread(tokens, capabilities),
  };
}
