import { LongctxError } from "../../errors.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../kernel.ts";
import type { TurnTables } from "../lane-table.ts";
import { nameOf, quadsOf, shapeCode, storageCode, type AttentionShape, type LayerCache } from "./attention-shape.ts";

/**
 * Old keys from one copy to another, each turned by the difference of two angles: for tables that change with the length
 * and for plans that read a copy nobody has kept so far. From and to may be the same place: a workgroup reads all it
 * changes before it writes.
 *
 *     keys [K, places, stride, D]: place `from` → place `to`, slots of `TurnTables`
 */
export function turnKeysKernel(shape: AttentionShape): Kernel {
  const { threads, rowsAtOnce } = turnKeysPlan(shape);
  const code = `// ${nameOf("turn-keys", shape)}
${shapeCode(shape)}const ROWS_AT_ONCE = ${rowsAtOnce}u;

struct Uniforms { rows: u32, origin: u32, goal: u32, places: u32, stride: u32, heads: u32 }

@group(0) @binding(0) var<storage, read> angles: array<vec2f>;
@group(0) @binding(1) var<storage, read> slots: array<u32>;
${storageCode("keys", 2, "write", shape.storage)}@group(0) @binding(3) var<uniform> uniforms: Uniforms;

fn at(begin: u32, channel: u32) -> f32 { return readKeys(begin + channel / 4u)[channel % 4u]; }

fn turned(begin: u32, channel: u32, angle: u32) -> f32 {
  if (channel < PAIRS) {
    let turn = angles[angle + channel];
    return at(begin, channel) * turn.x - at(begin, channel + PAIRS) * turn.y;
  }
  if (channel < 2u * PAIRS) {
    let turn = angles[angle + channel - PAIRS];
    return at(begin, channel) * turn.x + at(begin, channel - PAIRS) * turn.y;
  }
  return at(begin, channel);
}

/** Some whole rows of some head for each workgroup. */
@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let unit = (group.x + group.y * groups.x) * ROWS_AT_ONCE + local / QUADS;
  let row = unit / uniforms.heads;
  let head = unit % uniforms.heads;
  let working = local < ROWS_AT_ONCE * QUADS && row < uniforms.rows;
  let quad = local % QUADS;
  var key = vec4f();
  var goal = 0u;
  if (working) {
    let slot = slots[row];
    let begin = ((head * uniforms.places + uniforms.origin) * uniforms.stride + slot) * QUADS;
    goal = ((head * uniforms.places + uniforms.goal) * uniforms.stride + slot) * QUADS + quad;
    let channel = 4u * quad;
    let angle = row * PAIRS;
    key = vec4f(
      turned(begin, channel, angle),
      turned(begin, channel + 1u, angle),
      turned(begin, channel + 2u, angle),
      turned(begin, channel + 3u, angle),
    );
  }
  storageBarrier();
  if (working) { writeKeys(goal, key); }
}
`;
  return {
    name: nameOf("turn-keys", shape),
    code,
    bindings: ["read", "read", "write"],
    uniforms: ["u32", "u32", "u32", "u32", "u32", "u32"],
    features: [],
  };
}

/** A row is one workgroup's business. @throws LongctxError "config" for heads of more than 1024 channels */
export function turnKeysPlan(shape: AttentionShape): { threads: number; rowsAtOnce: number } {
  const quads = quadsOf(shape);
  if (quads > 256)
    throw new LongctxError("config", `Heads of ${shape.headSize} channels are more than the 1024 that webgpu takes; use --device cpu.`);
  const threads = Math.max(64, Math.ceil(quads / 64) * 64);
  return { threads, rowsAtOnce: Math.floor(threads / quads) };
}

export interface TurnKeys {
  readonly tables: TurnTables;
  readonly uploaded: GpuSlice;
  readonly cache: LayerCache;
  /** Places of the cache. */
  readonly from: number;
  readonly to: number;
}

export function turnKeys(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, cache, from, to }: TurnKeys,
): Dispatch[] {
  const section = ({ offset, size }: { offset: number; size: number }) => ({
    buffer: uploaded.buffer,
    offset: uploaded.offset + offset,
    size,
  });
  const { rowsAtOnce } = turnKeysPlan(shape);
  return cache.groups.map(({ heads, keys }) => ({
    kernel,
    buffers: [section(tables.sections.angles), section(tables.sections.slots), keys],
    uniforms: [tables.count, from, to, cache.places, cache.stride, heads],
    workgroups: spread(Math.ceil((tables.count * heads) / rowsAtOnce), capabilities),
  }));
}
