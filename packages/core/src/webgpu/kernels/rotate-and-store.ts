import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../kernel.ts";
import { sectionOf, type AttentionTables } from "../lane-table.ts";
import { groupOf, nameOf, quadsOf, shapeCode, storageCode, type AttentionShape, type LayerCache } from "./attention-shape.ts";

/**
 * From the projection to everything that attention reads, in one dispatch: queries rotated by every rotation that some
 * lane asks for and multiplied by τ/√D · log₂e, keys rotated for every copy of them, values as they are. Rows of the
 * cache are written where `rows` says, so a ring needs no special case. Angles come from the host.
 *
 *     projected [T, (H + 2K) · D] → queries [rotations, T, H, D], keys [K, places, stride, D], values [K, stride, D]
 */
export interface RotateAndStoreKey {
  readonly shape: AttentionShape;
  /** RMS norm over each head of q and k before the rotation (Qwen3), with this ε; `norms` is [2, D]. */
  readonly normEpsilon: number | null;
}

const THREADS = 64;

export function rotateAndStoreKernel({ shape, normEpsilon }: RotateAndStoreKey): Kernel {
  const normed = normEpsilon !== null;
  const norm = (row: number) => (normed ? `normOf(begin, ${row}u)` : "Norm(1.0, 0u)");
  const code = `// ${nameOf("rotate-and-store", shape)}
${shapeCode(shape)}const WIDTH = (QUERY_HEADS + 2u * KEY_HEADS) * HEAD_SIZE;

struct Row { slot: u32, scale: f32 }
struct Copy { rotation: u32, place: u32 }
struct Uniforms { rows: u32, queryRotations: u32, copies: u32, places: u32, stride: u32, firstHead: u32, heads: u32 }

@group(0) @binding(0) var<storage, read> projected: array<f32>;
@group(0) @binding(1) var<storage, read> angles: array<vec2f>;
@group(0) @binding(2) var<storage, read> rows: array<Row>;
@group(0) @binding(3) var<storage, read> copies: array<Copy>;
@group(0) @binding(4) var<storage, read_write> queries: array<vec4f>;
${storageCode("keys", 5, "write", shape.storage)}${storageCode("values", 6, "write", shape.storage)}${
    normed ? "@group(0) @binding(7) var<storage, read> norms: array<f32>;\n" : ""
  }@group(0) @binding(${normed ? 8 : 7}) var<uniform> uniforms: Uniforms;

/** One over the root of the mean square, and which weights go with it. */
struct Norm { factor: f32, weights: u32 }
${
  normed
    ? `
fn normOf(begin: u32, which: u32) -> Norm {
  var squares = 0.0;
  for (var i = 0u; i < HEAD_SIZE; i++) { squares += projected[begin + i] * projected[begin + i]; }
  return Norm(inverseSqrt(squares / f32(HEAD_SIZE) + ${literal(normEpsilon)}), which * HEAD_SIZE);
}

fn at(begin: u32, channel: u32, norm: Norm) -> f32 {
  return projected[begin + channel] * norm.factor * norms[norm.weights + channel];
}
`
    : `
fn at(begin: u32, channel: u32, norm: Norm) -> f32 { return projected[begin + channel]; }
`
}
/** A channel of a head after its rotation; zero behind the last. */
fn turned(begin: u32, channel: u32, angle: u32, norm: Norm) -> f32 {
  if (channel < PAIRS) {
    let turn = angles[angle + channel];
    return at(begin, channel, norm) * turn.x - at(begin, channel + PAIRS, norm) * turn.y;
  }
  if (channel < 2u * PAIRS) {
    let turn = angles[angle + channel - PAIRS];
    return at(begin, channel, norm) * turn.x + at(begin, channel - PAIRS, norm) * turn.y;
  }
  if (channel < HEAD_SIZE) { return at(begin, channel, norm); }
  return 0.0;
}

fn turnedQuad(begin: u32, quad: u32, angle: u32, norm: Norm) -> vec4f {
  let channel = 4u * quad;
  return vec4f(
    turned(begin, channel, angle, norm),
    turned(begin, channel + 1u, angle, norm),
    turned(begin, channel + 2u, angle, norm),
    turned(begin, channel + 3u, angle, norm),
  );
}

fn plain(begin: u32, channel: u32) -> f32 {
  if (channel < HEAD_SIZE) { return projected[begin + channel]; }
  return 0.0;
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
  let queryUnits = uniforms.queryRotations * heads * GROUP;
  let keyUnits = uniforms.copies * heads;
  let units = queryUnits + keyUnits + heads;
  let quad = thread % QUADS;
  let unit = thread / QUADS % units;
  let t = thread / QUADS / units;
  if (t >= uniforms.rows) { return; }
  let row = rows[t];

  if (unit < queryUnits) {
    let rotation = unit / (heads * GROUP);
    let head = uniforms.firstHead * GROUP + unit % (heads * GROUP);
    let begin = t * WIDTH + head * HEAD_SIZE;
    let query = turnedQuad(begin, quad, (rotation * uniforms.rows + t) * PAIRS, ${norm(0)});
    queries[((rotation * uniforms.rows + t) * QUERY_HEADS + head) * QUADS + quad] = query * row.scale;
  } else if (unit < queryUnits + keyUnits) {
    let copy = copies[(unit - queryUnits) / heads];
    let head = (unit - queryUnits) % heads;
    let begin = t * WIDTH + (QUERY_HEADS + uniforms.firstHead + head) * HEAD_SIZE;
    let key = turnedQuad(begin, quad, (copy.rotation * uniforms.rows + t) * PAIRS, ${norm(1)});
    writeKeys(((head * uniforms.places + copy.place) * uniforms.stride + row.slot) * QUADS + quad, key);
  } else {
    let head = unit - queryUnits - keyUnits;
    let begin = t * WIDTH + (QUERY_HEADS + KEY_HEADS + uniforms.firstHead + head) * HEAD_SIZE;
    let channel = 4u * quad;
    let value = vec4f(plain(begin, channel), plain(begin, channel + 1u), plain(begin, channel + 2u), plain(begin, channel + 3u));
    writeValues((head * uniforms.stride + row.slot) * QUADS + quad, value);
  }
}
`;
  return {
    name: nameOf("rotate-and-store", shape, normed ? `norm ${normEpsilon}` : ""),
    code,
    bindings: ["read", "read", "read", "read", "write", "write", "write", ...(normed ? (["read"] as const) : [])],
    uniforms: ["u32", "u32", "u32", "u32", "u32", "u32", "u32"],
    features: [],
  };
}

function literal(value: number): string {
  return `f32(${value})`;
}

export interface RotateAndStore {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  readonly projected: GpuSlice;
  /** Takes `queryBytes(shape, tables.queryRotations, tables.count)`. */
  readonly queries: GpuSlice;
  readonly cache: LayerCache;
  /** Weights of the queries' norm and of the keys', [2, D]. */
  readonly norms?: GpuSlice;
}

/** One dispatch, or one for each group of heads where a layer's cache has several. */
export function rotateAndStore(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, projected, queries, cache, norms }: RotateAndStore,
): Dispatch[] {
  const { count, queryRotations, keyCopies } = tables;
  const [angles, rows, targets] = (["angles", "rows", "targets"] as const).map((name) => sectionOf(tables, uploaded, name));
  return cache.groups.map(({ firstHead, heads, keys, values }) => {
    const units = heads * (queryRotations * groupOf(shape) + keyCopies + 1);
    return {
      kernel,
      buffers: [projected, angles, rows, targets, queries, keys, values, ...(norms ? [norms] : [])],
      uniforms: [count, queryRotations, keyCopies, cache.places, cache.stride, firstHead, heads],
      workgroups: spread(Math.ceil((count * units * quadsOf(shape)) / THREADS), capabilities),
    };
  });
}

/** Float64: one head's channels [D] under (cos, sin) of each pair, after an optional norm. */
export function rotatedReference(
  head: ArrayLike<number>,
  angles: ArrayLike<number>,
  norm?: { readonly weights: ArrayLike<number>; readonly epsilon: number },
): Float64Array {
  const pairs = angles.length / 2;
  const input = Float64Array.from(head);
  if (norm) {
    const mean = input.reduce((sum, x) => sum + x * x, 0) / input.length;
    input.forEach((x, i) => (input[i] = (x / Math.sqrt(mean + norm.epsilon)) * norm.weights[i]));
  }
  return input.map((x, i) => {
    if (i < pairs) return x * angles[2 * i] - input[i + pairs] * angles[2 * i + 1];
    if (i < 2 * pairs) return x * angles[2 * (i - pairs)] + input[i - pairs] * angles[2 * (i - pairs) + 1];
    return x;
  });
}
