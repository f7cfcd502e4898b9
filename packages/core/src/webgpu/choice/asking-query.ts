import { SHAPE_UNIFORMS, type AttentionShape } from "../attention/attention-shape.ts";
import { sectionOf, type AttentionTables } from "../attention/lane-table.ts";
import { ROTARY_TURN } from "../attention/rotate-and-store.ts";
import type { Choice } from "../../method/plan.ts";
import { memoised } from "../device/declare.ts";
import type { Dispatch, GpuSlice, Kernel } from "../device/kernel.ts";

const kernelOf = memoised(askingQueryKernel);
/** As many as every device has in a workgroup, and the vectors of four channels that a head has at most. */
const THREADS = 256;

/**
 * What a choice asks with: the mean of some rows' queries, turned to the choice's position, and added up over the query
 * heads of each key head, for the scores of a block are summed over all heads. A workgroup takes one key head.
 * `chooseBlocks` of the reference judges it.
 *
 *     queries [rotations, T, H, D], the rotation that turns nothing, divided by the factor of their row → asking [K, D]
 */
export function askingQueryKernel(): Kernel {
  const name = "asking-query";
  const code = `// ${name}
struct Row { slot: u32, scale: f32 }
struct Uniforms { rows: u32, rotation: u32, rowFrom: u32, rowTo: u32, firstAngle: u32, ${SHAPE_UNIFORMS.fields} }

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
@group(0) @binding(1) var<storage, read> rows: array<Row>;
@group(0) @binding(2) var<storage, read> angles: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> asking: array<vec4f>;
@group(0) @binding(4) var<uniform> uniforms: Uniforms;

var<workgroup> sums: array<vec4f, ${THREADS}>;

${ROTARY_TURN}
fn channelOf(channel: u32) -> f32 { return sums[channel / 4u][channel % 4u]; }

fn turned(channel: u32) -> f32 {
  let turn = turnOf(channel, uniforms.pairs, uniforms.firstAngle);
  return channelOf(channel) * turn.factors.x + channelOf(turn.partner) * turn.factors.y;
}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let share = uniforms.queryHeads / uniforms.keyHeads; // query heads of one key head
  let quads = uniforms.quads;
  let dealers = ${THREADS}u / quads;
  let dealer = local / quads;
  let quad = local % quads;
  let count = uniforms.rowTo - uniforms.rowFrom;
  var sum = vec4f();
  if (dealer < dealers) {
    for (var unit = dealer; unit < count * share; unit += dealers) {
      let row = uniforms.rowFrom + unit / share;
      let head = group.x * share + unit % share;
      sum += queries[((uniforms.rotation * uniforms.rows + row) * uniforms.queryHeads + head) * quads + quad] / rows[row].scale;
    }
  }
  sums[local] = sum;
  workgroupBarrier();
  if (dealer == 0u) {
    for (var other = 1u; other < dealers; other++) { sum += sums[other * quads + quad]; }
    sums[quad] = sum / f32(max(count, 1u));
  }
  workgroupBarrier();
  if (dealer != 0u) { return; }
  let channel = 4u * quad;
  asking[group.x * quads + quad] =
    vec4f(turned(channel), turned(channel + 1u), turned(channel + 2u), turned(channel + 3u));
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "read", "write"],
    uniforms: ["u32", "u32", "u32", "u32", "u32", ...SHAPE_UNIFORMS.types],
    features: [],
  };
}

export interface AskingQuery {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  /** As `rotate-and-store` left them. */
  readonly queries: GpuSlice;
  readonly choice: Choice;
  /** (cos, sin) of the pairs that turn the mean, [choices, d/2, 2], and which of them. */
  readonly angles: GpuSlice;
  readonly which: number;
  /** The heads of the result: key heads, over whose query heads the mean is added up, or each query head. */
  readonly heads: "key heads" | "query heads";
  /** [K, D] or [H, D] in float32. */
  readonly asking: GpuSlice;
}

export function askingQuery(shape: AttentionShape, work: AskingQuery): Dispatch {
  const { tables, uploaded, queries, choice, angles, which, heads, asking } = work;
  const { first, count, rawRotation } = tables;
  const { from, to } = choice.asking;
  const rowFrom = Math.min(Math.max(from - first, 0), count);
  // As many key heads as query heads leave nothing to add up.
  const added = heads === "key heads" ? shape : { ...shape, keyHeads: shape.queryHeads };
  return {
    kernel: kernelOf(),
    buffers: [queries, sectionOf(tables, uploaded, "rows"), angles, asking],
    uniforms: [
      count,
      rawRotation!,
      rowFrom,
      Math.max(rowFrom, Math.min(to - first, count)),
      which * shape.pairs,
      ...SHAPE_UNIFORMS.of(added),
    ],
    workgroups: [added.keyHeads, 1, 1],
  };
}
