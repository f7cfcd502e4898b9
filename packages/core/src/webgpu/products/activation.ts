import type { Activation } from "../../model/config.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { declareKernel, memoised } from "../device/declare.ts";

const kernelOf = memoised(activationKernel);

/**
 * activation(gate) · up: [T, 2F] with gate and up side by side in a row (or one of each by turns, as interleaved
 * products write them) to [T, F]. Products of interleaved rows do it themselves; this one is for matrices that differ.
 */
export function activationKernel(activation: Activation): Kernel {
  return declareKernel({
    name: `activation ${activation}`,
    storage: [
      ["gate_up", "f32", "read"],
      ["output", "f32", "write"],
    ],
    uniforms: { rows: "u32", size: "u32" },
    body: `
${ACTIVATION_WGSL[activation]}
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>) {
  let at = id.x + id.y * count.x * 64u;
  if (at >= uniforms.rows * uniforms.size) {
    return;
  }
  let row = at / uniforms.size;
  let gate = at + row * uniforms.size;
  output[at] = activate(gate_up[gate]) * gate_up[gate + uniforms.size];
}`,
  });
}

export interface ActivationWork {
  readonly activation: Activation;
  /** T. */
  readonly rows: number;
  /** F. */
  readonly size: number;
  /** [T, 2F] */
  readonly gateUp: GpuSlice;
  /** [T, F] */
  readonly output: GpuSlice;
}

export function activate(work: ActivationWork, capabilities: Capabilities): Dispatch {
  const { activation, rows, size, gateUp, output } = work;
  return {
    kernel: kernelOf(activation),
    buffers: [gateUp, output],
    uniforms: [rows, size],
    workgroups: spread(Math.ceil((rows * size) / 64), capabilities),
  };
}

/** `activate(x)`; exponents are bounded, since a device need not know infinity. */
export const ACTIVATION_WGSL: Readonly<Record<Activation, string>> = {
  silu: `
fn activate(x: f32) -> f32 {
  return x / (1.0 + exp(min(-x, 80.0)));
}
`,
  "gelu-tanh": `
fn activate(x: f32) -> f32 {
  return 0.5 * x * (1.0 + tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), -15.0, 15.0)));
}
`,
  // erfc by the Chebyshev fit of Numerical Recipes §6.2, relative error below 1.2e-7 everywhere.
  gelu: `
fn activate(x: f32) -> f32 {
  let z = min(abs(x) * 0.7071067811865476, 9.0);
  let t = 1.0 / (1.0 + 0.5 * z);
  let fit = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806 +
    t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let tail = 0.5 * t * exp(fit - z * z);
  return x * select(1.0 - tail, tail, x < 0.0);
}
`,
};
