import type { Dispatch, GpuSlice, Kernel } from "../device/kernel.ts";
import { declareKernel, memoised } from "../device/declare.ts";

const kernelOf = memoised(argmaxKernel);

/** What `argmax` answers where no logit is a number above −∞: no token has this id. */
export const NO_TOKEN = 0xffffffff;

const SIZE = 128;
/** Logits of a workgroup of the first pass. */
const SPAN = 4096;
/** Below every logit: a device need not know infinity. */
const LEAST = "-3.4028234e38";

/**
 * The first of the largest logits [V], in two passes: spans of 4096 find theirs, and one workgroup finds the largest of
 * them. The pairs (logit's bits, id) between the two lie in `scratch`.
 */
function argmaxKernel(pass: "spans" | "whole"): Kernel {
  const spans = pass === "spans";
  return declareKernel({
    name: `argmax ${pass}`,
    storage: spans
      ? [
          ["logits", "f32", "read"],
          ["result", "vec2<u32>", "write"],
        ]
      : [
          ["spans", "vec2<u32>", "read"],
          ["result", "u32", "write"],
        ],
    uniforms: { count: "u32" },
    body: `
var<workgroup> tops: array<f32, ${SIZE}>;
var<workgroup> ids: array<u32, ${SIZE}>;

fn better(top: f32, id: u32, than: f32, than_id: u32) -> bool {
  return top > than || (top == than && id < than_id);
}

@compute @workgroup_size(${SIZE})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) own: u32) {
  var top = ${LEAST};
  var best = ${NO_TOKEN}u;
${
  spans
    ? `  let end = min((group.x + 1u) * ${SPAN}u, uniforms.count);
  for (var id = group.x * ${SPAN}u + own; id < end; id += ${SIZE}u) {
    let logit = logits[id];`
    : `  for (var i = own; i < uniforms.count; i += ${SIZE}u) {
    let logit = bitcast<f32>(spans[i].x);
    let id = spans[i].y;`
}
    if (better(logit, id, top, best)) {
      top = logit;
      best = id;
    }
  }
  tops[own] = top;
  ids[own] = best;
  workgroupBarrier();
  for (var reach = ${SIZE / 2}u; reach > 0u; reach /= 2u) {
    if (own < reach && better(tops[own + reach], ids[own + reach], tops[own], ids[own])) {
      tops[own] = tops[own + reach];
      ids[own] = ids[own + reach];
    }
    workgroupBarrier();
  }
  if (own == 0u) {
    ${spans ? "result[group.x] = vec2<u32>(bitcast<u32>(tops[0]), ids[0]);" : "result[0] = ids[0];"}
  }
}`,
  });
}

export interface Argmax {
  /** [V] */
  readonly logits: GpuSlice;
  /** V. */
  readonly size: number;
  /** At least `argmaxScratch(V)` bytes. */
  readonly scratch: GpuSlice;
  /** Where the id goes, or `NO_TOKEN`. */
  readonly result: GpuSlice;
}

/** To be compiled ahead. */
export function argmaxKernels(): Kernel[] {
  return [kernelOf("spans"), kernelOf("whole")];
}

export function argmaxScratch(size: number): number {
  return Math.ceil(size / SPAN) * 8;
}

export function argmax({ logits, size, scratch, result }: Argmax): Dispatch[] {
  const spans = Math.ceil(size / SPAN);
  return [
    {
      kernel: kernelOf("spans"),
      buffers: [logits, scratch],
      uniforms: [size],
      workgroups: [spans, 1, 1],
    },
    {
      kernel: kernelOf("whole"),
      buffers: [scratch, result],
      uniforms: [spans],
      workgroups: [1, 1, 1],
    },
  ];
}
