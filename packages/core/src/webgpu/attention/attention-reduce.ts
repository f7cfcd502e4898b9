import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { sectionOf } from "./lane-table.ts";
import { workgroupEntry } from "../device/declare.ts";
import { maximumCode, maximumDirective, maximumFeatures, maximumSteps } from "./attention-maximum.ts";
import { SHAPE_UNIFORMS, type AttentionShape } from "./attention-shape.ts";
import type { AttentionWork, SplitTiling } from "./attention-split.ts";

/**
 * Puts the pieces of `attention-split`, or the ranges of `attention-tiled`, together under one softmax. A query without any
 * gets zeros.
 *
 *     parts [pieces, H, D + 4] → attended [T, H, D]
 *
 * `reduceOracle` (tests/oracles/attention-reduce.ts) judges it.
 */
export function reduceKernel({ threads, maximum }: Pick<SplitTiling, "threads" | "maximum">): Kernel {
  const name = ["attention-reduce", threads, maximum].join(" ");
  const code = `${maximumDirective(maximum)}// ${name}
const THREADS = ${threads}u;
const LOWEST = -1e30;

struct Range { begin: u32, end: u32 }
struct Uniforms { units: u32, ${SHAPE_UNIFORMS.fields} }

@group(0) @binding(0) var<storage, read> parts: array<vec4f>;
@group(0) @binding(1) var<storage, read> ranges: array<Range>;
@group(0) @binding(2) var<storage, read_write> attended: array<f32>;
@group(0) @binding(3) var<uniform> uniforms: Uniforms;

var<workgroup> sums: array<vec4f, THREADS>;
var<workgroup> totals: array<f32, THREADS>;
${maximumCode(maximum, threads, 1)}
// A unit is a query and a head.
${workgroupEntry({ threads, unit: "unit", of: "units", invocation: "local" })}
  let range = ranges[unit / uniforms.queryHeads];
  let head = unit % uniforms.queryHeads;
  let quads = uniforms.quads;

  var largest = LOWEST;
  for (var i = range.begin + local; i < range.end; i += THREADS) {
    largest = max(largest, parts[(i * uniforms.queryHeads + head) * (quads + 1u) + quads].x);
  }
${maximumSteps(maximum, threads, ["largest"])}
  let dealers = THREADS / quads;
  let dealer = local / quads;
  let quad = local % quads;
  var sum = vec4f();
  var total = 0.0;
  if (dealer < dealers) {
    for (var i = range.begin + dealer; i < range.end; i += dealers) {
      let part = (i * uniforms.queryHeads + head) * (quads + 1u);
      let known = parts[part + quads];
      let weight = exp2(known.x - largest);
      sum += weight * parts[part + quad];
      total += weight * known.y;
    }
  }
  sums[local] = sum;
  totals[local] = total;
  workgroupBarrier();
  if (local >= quads) { return; }
  for (var other = 1u; other < dealers; other++) {
    sum += sums[other * quads + quad];
    total += totals[other * quads + quad];
  }
  let mean = select(sum / total, vec4f(), total == 0.0);
  let goal = unit * uniforms.headSize + 4u * quad;
  for (var i = 0u; i < min(4u, uniforms.headSize - 4u * quad); i++) { attended[goal + i] = mean[i]; }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "write"],
    uniforms: ["u32", ...SHAPE_UNIFORMS.types],
    features: maximumFeatures(maximum),
  };
}

export interface AttentionReduction extends Pick<AttentionWork, "tables" | "uploaded"> {
  readonly parts: GpuSlice;
  readonly attended: GpuSlice;
}

export function attentionReduce(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, parts, attended }: AttentionReduction,
): Dispatch {
  const units = tables.count * shape.queryHeads;
  return {
    kernel,
    buffers: [parts, sectionOf(tables, uploaded, "ranges"), attended],
    uniforms: [units, ...SHAPE_UNIFORMS.of(shape)],
    workgroups: spread(units, capabilities),
  };
}
