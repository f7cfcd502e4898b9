import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { sectionOf, type AttentionTables } from "./lane-table.ts";
import { groupOf, quadsOf, SHAPE_UNIFORMS, type AttentionShape, type LayerRing } from "./attention-shape.ts";
import { storageCode, halvesCode, type Storage } from "./storage.ts";

/**
 * From the projection to everything that attention reads, in one dispatch: queries rotated by every rotation that some
 * lane asks for and multiplied by τ/√D · log₂e, keys rotated for every copy of them, values as they are. Rows of the
 * ring are written where `rows` says, so a ring needs no special case. Angles come from the host.
 *
 *     projected [T, (H + 2K) · D] → queries [rotations, T, H, D], keys [K, places, stride, D], values [K, stride, D]
 *
 * `rotatedOracle` (tests/oracles/rotation.ts) judges it.
 */
export interface RotateAndStoreKey {
  readonly storage: Storage;
  /** RMS norm over each head of q and k before the rotation (Qwen3), with this ε; `norms` is [2, D]. */
  readonly normEpsilon: number | null;
}

const THREADS = 64;

/**
 * WGSL of rotary turns, for kernels that bind `angles`, (cos, sin) of each pair: channel i of a head becomes
 * head[i] · factors.x + head[partner] · factors.y. Pairs are (i, i + d/2); channels behind them stay what they are.
 */
export const ROTARY_TURN = `struct Turn { partner: u32, factors: vec2f }

fn turnOf(channel: u32, pairs: u32, firstAngle: u32) -> Turn {
  if (channel < pairs) { return Turn(channel + pairs, angles[firstAngle + channel] * vec2f(1.0, -1.0)); }
  if (channel < 2u * pairs) { return Turn(channel - pairs, angles[firstAngle + channel - pairs]); }
  return Turn(channel, vec2f(1.0, 0.0));
}
`;

export function rotateAndStoreKernel({ storage, normEpsilon }: RotateAndStoreKey): Kernel {
  const normed = normEpsilon !== null;
  const name = ["rotate-and-store", storage, ...(normed ? [`norm ${normEpsilon}`] : [])].join(" ");
  const code = `// ${name}
struct Row { slot: u32, scale: f32 }
struct Copy { rotation: u32, place: u32 }
struct Uniforms {
  rows: u32, queryRotations: u32, copies: u32, places: u32, stride: u32, firstHead: u32, heads: u32,
  ${SHAPE_UNIFORMS.fields},
}

@group(0) @binding(0) var<storage, read> projected: array<f32>;
@group(0) @binding(1) var<storage, read> angles: array<vec2f>;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read> copies: array<Copy>;
@group(0) @binding(4) var<storage, read_write> queries: array<vec4f>;
${storageCode("keys", 5, "write", storage)}${storageCode("values", 6, "write", storage)}${
    normed ? "@group(0) @binding(7) var<storage, read> norms: array<f32>;\n" : ""
  }@group(0) @binding(${normed ? 8 : 7}) var<uniform> uniforms: Uniforms;

/** A head that is read: where its channels and its angles begin, its pairs, its norm's factor and weights. */
struct Head { begin: u32, angle: u32, pairs: u32, factor: f32, weights: u32 }

fn channelOf(head: Head, channel: u32) -> f32 {
  ${
    normed
      ? `let weight = select(1.0, norms[head.weights % (2u * uniforms.headSize) + channel], head.weights < 2u * uniforms.headSize);
  return projected[head.begin + channel] * head.factor * weight;`
      : "return projected[head.begin + channel];"
  }
}

${halvesCode(storage)}${ROTARY_TURN}
/** A channel after its rotation; zero behind the last. */
fn turned(head: Head, channel: u32) -> f32 {
  if (channel >= uniforms.headSize) { return 0.0; }
  let turn = turnOf(channel, head.pairs, head.angle);
  return channelOf(head, channel) * turn.factors.x + channelOf(head, turn.partner) * turn.factors.y;
}

/** One thread for four channels of a query, a key or a value. */
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let thread = (group.x + group.y * groups.x) * ${THREADS}u + local;
  let heads = uniforms.heads;
  let queryHeads = heads * (uniforms.queryHeads / uniforms.keyHeads);
  let queryUnits = uniforms.queryRotations * queryHeads;
  let keyUnits = uniforms.copies * heads;
  let units = queryUnits + keyUnits + heads;
  let quad = thread % uniforms.quads;
  let unit = thread / uniforms.quads % units;
  let t = thread / uniforms.quads / units;
  if (t >= uniforms.rows) { return; }
  let row = rows[t];

  // Values are heads without pairs, and without a norm.
  var column = uniforms.queryHeads + uniforms.keyHeads + uniforms.firstHead + (unit - queryUnits - keyUnits);
  var rotation = 0u;
  var place = 0u;
  var head = Head(0u, 0u, 0u, 1.0, 2u * uniforms.headSize);
  if (unit < queryUnits) {
    rotation = unit / queryHeads;
    column = uniforms.firstHead * (uniforms.queryHeads / uniforms.keyHeads) + unit % queryHeads;
    head.pairs = uniforms.pairs;
    head.weights = 0u;
  } else if (unit < queryUnits + keyUnits) {
    let copy = copies[(unit - queryUnits) / heads];
    rotation = copy.rotation;
    place = copy.place;
    column = uniforms.queryHeads + uniforms.firstHead + (unit - queryUnits) % heads;
    head.pairs = uniforms.pairs;
    head.weights = uniforms.headSize;
  }
  head.begin = (t * (uniforms.queryHeads + 2u * uniforms.keyHeads) + column) * uniforms.headSize;
  head.angle = (rotation * uniforms.rows + t) * uniforms.pairs;
${
  normed
    ? `  if (head.weights < 2u * uniforms.headSize) {
    var squares = 0.0;
    for (var i = 0u; i < uniforms.headSize; i++) { squares += projected[head.begin + i] * projected[head.begin + i]; }
    head.factor = inverseSqrt(squares / f32(uniforms.headSize) + f32(${normEpsilon}));
  }
`
    : ""
}  let channel = 4u * quad;
  let four = vec4f(turned(head, channel), turned(head, channel + 1u), turned(head, channel + 2u), turned(head, channel + 3u));
  if (unit < queryUnits) {
    queries[((rotation * uniforms.rows + t) * uniforms.queryHeads + column) * uniforms.quads + quad] = four * row.scale;
  } else if (unit < queryUnits + keyUnits) {
    let keyHead = column - uniforms.queryHeads - uniforms.firstHead;
    writeKeys(((keyHead * uniforms.places + place) * uniforms.stride + row.slot) * uniforms.quads + quad, four);
  } else {
    writeValues(((unit - queryUnits - keyUnits) * uniforms.stride + row.slot) * uniforms.quads + quad, four);
  }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "read", "read", "write", "write", "write", ...(normed ? (["read"] as const) : [])],
    uniforms: ["u32", "u32", "u32", "u32", "u32", "u32", "u32", ...SHAPE_UNIFORMS.types],
    features: [],
  };
}

export interface RotateAndStore {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  /** [T, (H + 2K)·D] */
  readonly projected: GpuSlice;
  /** Takes `queryBytes(shape, tables.queryRotations, tables.count)`. */
  readonly queries: GpuSlice;
  readonly ring: LayerRing;
  /** Weights of the queries' norm and of the keys', [2, D]. */
  readonly norms?: GpuSlice;
}

/** One dispatch, or one for each group of heads where a layer's ring has several. */
export function rotateAndStore(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, projected, queries, ring, norms }: RotateAndStore,
): Dispatch[] {
  const { count, queryRotations, keyCopies } = tables;
  const [angles, rows, targets] = (["angles", "rows", "targets"] as const).map((name) =>
    sectionOf(tables, uploaded, name),
  );
  return ring.groups.map(({ firstHead, heads, keys, values }) => {
    const units = heads * (queryRotations * groupOf(shape) + keyCopies + 1);
    return {
      kernel,
      buffers: [projected, angles, rows, targets, queries, keys, values, ...(norms ? [norms] : [])],
      uniforms: [
        count,
        queryRotations,
        keyCopies,
        ring.places,
        ring.stride,
        firstHead,
        heads,
        ...SHAPE_UNIFORMS.of(shape),
      ],
      workgroups: spread(Math.ceil((count * units * quadsOf(shape)) / THREADS), capabilities),
    };
  });
}
