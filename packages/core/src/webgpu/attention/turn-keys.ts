import { LongctxError } from "../../common/errors.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import type { TurnTables } from "./angle-tables.ts";
import { quadsOf, SHAPE_UNIFORMS, type AttentionShape, type LayerRing } from "./attention-shape.ts";
import { storageCode, halvesCode } from "./storage.ts";
import { ROTARY_TURN } from "./rotate-and-store.ts";

/**
 * Old keys from one copy to another, each turned by the difference of two angles: for tables that change with the length
 * and for plans that read a copy nobody has kept so far. From and to may be the same place: a workgroup reads all it
 * changes before it writes.
 *
 *     keys [K, places, stride, D]: place `from` → place `to`, slots of `TurnTables`
 *
 * `rotatedOracle` (tests/oracles/rotation.ts) judges it.
 */
export function turnKeysKernel(shape: AttentionShape): Kernel {
  const { threads } = turnKeysTiling(shape);
  const name = ["turn-keys", shape.storage, threads].join(" ");
  const code = `// ${name}
struct Uniforms {
  rows: u32, origin: u32, goal: u32, places: u32, stride: u32, heads: u32,
  ${SHAPE_UNIFORMS.fields},
}

@group(0) @binding(0) var<storage, read> angles: array<vec2f>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
${storageCode("keys", 2, "write", shape.storage)}@group(0) @binding(3) var<uniform> uniforms: Uniforms;

fn channelOf(begin: u32, channel: u32) -> f32 { return readKeys(begin + channel / 4u)[channel % 4u]; }

${halvesCode(shape.storage)}${ROTARY_TURN}
/** A channel after the turn of row \`row\`, of the head that begins at quad \`begin\`. */
fn turned(begin: u32, channel: u32, row: u32) -> f32 {
  let turn = turnOf(channel, uniforms.pairs, row * uniforms.pairs);
  return channelOf(begin, channel) * turn.factors.x + channelOf(begin, turn.partner) * turn.factors.y;
}

/** Some whole rows of some head for each workgroup. */
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let rowsAtOnce = ${threads}u / uniforms.quads;
  let unit = (group.x + group.y * groups.x) * rowsAtOnce + local / uniforms.quads;
  let row = unit / uniforms.heads;
  let head = unit % uniforms.heads;
  let working = local < rowsAtOnce * uniforms.quads && row < uniforms.rows;
  let quad = local % uniforms.quads;
  var key = vec4f();
  var goal = 0u;
  if (working) {
    let slot = slots[row];
    let begin = ((head * uniforms.places + uniforms.origin) * uniforms.stride + slot) * uniforms.quads;
    goal = ((head * uniforms.places + uniforms.goal) * uniforms.stride + slot) * uniforms.quads + quad;
    let channel = 4u * quad;
    key = vec4f(
      turned(begin, channel, row),
      turned(begin, channel + 1u, row),
      turned(begin, channel + 2u, row),
      turned(begin, channel + 3u, row),
    );
  }
  storageBarrier();
  if (working) { writeKeys(goal, key); }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "write"],
    uniforms: ["u32", "u32", "u32", "u32", "u32", "u32", ...SHAPE_UNIFORMS.types],
    features: [],
  };
}

/** A row is one workgroup's business. @throws LongctxError "config" for heads of more than 1024 channels */
export function turnKeysTiling(shape: AttentionShape): { threads: number; rowsAtOnce: number } {
  const quads = quadsOf(shape);
  if (quads > 256)
    throw new LongctxError(
      "config",
      `Heads of ${shape.headSize} channels are more than the 1024 that webgpu takes; use --device cpu.`,
    );
  const threads = Math.max(64, Math.ceil(quads / 64) * 64);
  return { threads, rowsAtOnce: Math.floor(threads / quads) };
}

export interface TurnKeys {
  readonly tables: TurnTables;
  readonly uploaded: GpuSlice;
  readonly ring: LayerRing;
  /** Places of the ring. */
  readonly from: number;
  readonly to: number;
}

/** One dispatch for each group of heads. */
export function turnKeys(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, ring, from, to }: TurnKeys,
): Dispatch[] {
  const section = ({ offset, size }: { offset: number; size: number }) => ({
    buffer: uploaded.buffer,
    offset: uploaded.offset + offset,
    size,
  });
  const { rowsAtOnce } = turnKeysTiling(shape);
  return ring.groups.map(({ heads, keys }) => ({
    kernel,
    buffers: [section(tables.sections.angles), section(tables.sections.slots), keys],
    uniforms: [tables.count, from, to, ring.places, ring.stride, heads, ...SHAPE_UNIFORMS.of(shape)],
    workgroups: spread(Math.ceil((tables.count * heads) / rowsAtOnce), capabilities),
  }));
}
