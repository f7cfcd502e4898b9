import { SHAPE_UNIFORMS, type AttentionShape } from "../attention/attention-shape.ts";
import { declareKernel, memoised, workgroupEntry } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";

const kernelOf = memoised(gateBranchKernel);
const THREADS = 64;

/**
 * Mixes a second softmax into what the first attended to, in place: gate · found + (1 − gate) · attended, with `found` the
 * softmax over a row's parts, or zeros where the row has seen nothing. A workgroup has a row and a head.
 *
 *     parts [T, parts of a row, H, D + 4] as `attention-sparse` writes them, gates [L, H] → attended [T, H, D]
 */
export function gateBranchKernel(): Kernel {
  return declareKernel({
    name: "gate-branch",
    storage: [
      ["parts", "vec4f", "read"],
      ["gates", "f32", "read"],
      ["attended", "f32", "write"],
    ],
    uniforms: {
      units: "u32",
      parts: "u32",
      gateAt: "u32",
      queryHeads: "u32",
      keyHeads: "u32",
      headSize: "u32",
      quads: "u32",
      pairs: "u32",
    },
    body: `
// A unit is a row and a query head.
${workgroupEntry({ threads: THREADS, unit: "unit", of: "units", invocation: "local" })}
  let row = unit / uniforms.queryHeads;
  let head = unit % uniforms.queryHeads;
  let quads = uniforms.quads;
  var largest = -1e30;
  for (var i = 0u; i < uniforms.parts; i++) {
    let part = ((row * uniforms.parts + i) * uniforms.queryHeads + head) * (quads + 1u);
    largest = max(largest, parts[part + quads].x);
  }
  let gate = gates[uniforms.gateAt + head];
  for (var quad = local; quad < quads; quad += ${THREADS}u) {
    var sum = vec4f();
    var total = 0.0;
    for (var i = 0u; i < uniforms.parts; i++) {
      let part = ((row * uniforms.parts + i) * uniforms.queryHeads + head) * (quads + 1u);
      let known = parts[part + quads];
      let weight = exp2(known.x - largest);
      sum += weight * parts[part + quad];
      total += weight * known.y;
    }
    let found = select(sum / total, vec4f(), total == 0.0);
    let goal = unit * uniforms.headSize + 4u * quad;
    for (var i = 0u; i < min(4u, uniforms.headSize - 4u * quad); i++) {
      attended[goal + i] = gate * found[i] + (1.0 - gate) * attended[goal + i];
    }
  }
}`,
  });
}

export interface GateBranch {
  readonly rows: number;
  /** Parts of a row; 0 where no row sees anything. */
  readonly partCount: number;
  readonly parts: GpuSlice;
  /** sigmoid(gate), [L, H]. */
  readonly gates: GpuSlice;
  readonly layer: number;
  readonly attended: GpuSlice;
}

export function gateBranch(shape: AttentionShape, capabilities: Capabilities, work: GateBranch): Dispatch {
  const { rows, partCount, parts, gates, layer, attended } = work;
  const units = rows * shape.queryHeads;
  return {
    kernel: kernelOf(),
    buffers: [parts, gates, attended],
    uniforms: [units, partCount, layer * shape.queryHeads, ...SHAPE_UNIFORMS.of(shape)],
    workgroups: spread(units, capabilities),
  };
}
