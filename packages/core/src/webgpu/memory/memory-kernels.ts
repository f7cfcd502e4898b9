import { quadsOf, SHAPE_UNIFORMS, type AttentionShape } from "../attention/attention-shape.ts";
import { storageCode, type Storage } from "../attention/storage.ts";
import { RING_SLOT, RING_UNIFORMS } from "../attention/token-slots.ts";
import { workgroupEntry } from "../device/declare.ts";
import type { Kernel } from "../device/kernel.ts";

/** Invocations of a workgroup in every kernel of the memory. */
const MEMORY_THREADS = 64;
/** Sides of the tile of M that a workgroup of `memory-write` has: rows, and columns in vectors of four. */
const WRITE_TILE = { rows: 16, quads: 4 } as const;

/** σ(x) = ELU(x) + 1, which keeps its digits where e^x is small. */
const FEATURE = `fn feature(x: f32) -> f32 { return exp(max(min(x, 0.0), -80.0)) + max(x, 0.0); }
`;

/** Rows that a workgroup looks up at once: their features take 8 KiB of workgroup memory at most. */
export function lookupRows({ headSize }: Pick<AttentionShape, "headSize">): number {
  return Math.max(1, Math.min(8, Math.floor(2048 / headSize)));
}

/**
 * What a row x of features reads of a memory, A = σ(x) M / (σ(x) · z): an invocation adds up four channels of a row over
 * the rows of M. A denominator of 0 reads zeros. `channels` is the model's own head size: channels that only fill a head
 * up to a multiple of four are no features.
 */
function lookup(headSize: number, storeRow: string): string {
  const rows = lookupRows({ headSize });
  return `  workgroupBarrier();
  let matrixBase = memoryHead * uniforms.headSize;
  for (var item = local; item < ${rows}u * uniforms.quads; item += ${MEMORY_THREADS}u) {
    let r = item % ${rows}u;
    let quad = item / ${rows}u;
    let row = tile * ${rows}u + r;
    if (row >= uniforms.count) { continue; }
    var sum = vec4f();
    var total = 0.0;
    for (var i = 0u; i < uniforms.channels; i++) {
      let weight = features[r * ${headSize}u + i];
      sum += weight * matrix[(matrixBase + i) * uniforms.quads + quad];
      total += weight * sums[matrixBase + i];
    }
    let answer = select(sum / total, vec4f(), total == 0.0);
${storeRow}
  }
}
`;
}

/**
 * Reads a memory for rows of queries and mixes the answers into what the softmax branch attended to, in place:
 * gate · A + (1 − gate) · attended. A workgroup takes some rows of one query head. `LayerMemory` of the reference judges it.
 *
 *     queries [rotations, T, H, D], the rotation that turns nothing, divided by the factor of their row; M [K, D, D],
 *     z [K, D], gates [L, H] → attended [T, H, D]
 */
export function memoryReadKernel({ headSize }: Pick<AttentionShape, "headSize">): Kernel {
  const rows = lookupRows({ headSize });
  const name = ["memory-read", headSize].join(" ");
  const code = `// ${name}
struct Row { slot: u32, scale: f32 }
struct Uniforms {
  rows: u32, rotation: u32, rowFrom: u32, count: u32, gateAt: u32, channels: u32, units: u32, ${SHAPE_UNIFORMS.fields},
}

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
@group(0) @binding(1) var<storage, read> rows: array<Row>;
@group(0) @binding(2) var<storage, read> matrix: array<vec4f>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read> gates: array<f32>;
@group(0) @binding(5) var<storage, read_write> attended: array<f32>;
@group(0) @binding(6) var<uniform> uniforms: Uniforms;

var<workgroup> features: array<f32, ${rows * headSize}>;

${FEATURE}
// A unit is some rows of one query head.
${workgroupEntry({ threads: MEMORY_THREADS, unit: "unit", of: "units", invocation: "local" })}
  let head = unit % uniforms.queryHeads;
  let tile = unit / uniforms.queryHeads;
  let memoryHead = head / (uniforms.queryHeads / uniforms.keyHeads);
  for (var i = local; i < ${rows}u * uniforms.channels; i += ${MEMORY_THREADS}u) {
    let r = i / uniforms.channels;
    let channel = i % uniforms.channels;
    let t = uniforms.rowFrom + min(tile * ${rows}u + r, uniforms.count - 1u);
    let query = ((uniforms.rotation * uniforms.rows + t) * uniforms.queryHeads + head) * uniforms.quads;
    features[r * ${headSize}u + channel] = feature(queries[query + channel / 4u][channel % 4u] / rows[t].scale);
  }
${lookup(
  headSize,
  `    let gate = gates[uniforms.gateAt + head];
    let goal = ((uniforms.rowFrom + row) * uniforms.queryHeads + head) * uniforms.headSize + 4u * quad;
    for (var i = 0u; i < min(4u, uniforms.headSize - 4u * quad); i++) {
      attended[goal + i] = gate * answer[i] + (1.0 - gate) * attended[goal + i];
    }`,
)}`;
  return {
    name,
    code,
    bindings: ["read", "read", "read", "read", "read", "write"],
    uniforms: [...Array<"u32">(7).fill("u32"), ...SHAPE_UNIFORMS.types],
    features: [],
  };
}

/** Uniforms of kernels that go over a segment of text in the ring. */
const SEGMENT_UNIFORMS = `first: u32, count: u32, places: u32, place: u32, stride: u32, firstHead: u32, heads: u32, channels: u32, units: u32,
  ${RING_UNIFORMS.fields}, ${SHAPE_UNIFORMS.fields},`;
const SEGMENT_TYPES = [...Array<"u32">(9).fill("u32"), ...RING_UNIFORMS.types, ...SHAPE_UNIFORMS.types];

/**
 * What a segment's values have beyond what its keys read of the memory already, for the update `delta`: V − σ(K) M / (σ(K) z).
 * A workgroup takes some tokens of one key head. `LayerMemory` of the reference judges it together with `memory-write`.
 *
 *     keys [K, places, stride, D], the copy without rotation, values [K, stride, D], M [K, D, D], z [K, D]
 *       → residual [segment, K, D]
 */
export function memoryResidualKernel({ headSize, storage }: Pick<AttentionShape, "headSize" | "storage">): Kernel {
  const rows = lookupRows({ headSize });
  const name = ["memory-residual", headSize, storage].join(" ");
  const code = `// ${name}
struct Uniforms {
  ${SEGMENT_UNIFORMS}
}

${storageCode("keys", 0, "read", storage)}${storageCode("values", 1, "read", storage)}@group(0) @binding(2) var<storage, read> matrix: array<vec4f>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> residual: array<vec4f>;
@group(0) @binding(5) var<uniform> uniforms: Uniforms;

var<workgroup> features: array<f32, ${rows * headSize}>;

${FEATURE}
${RING_SLOT}
// A unit is some tokens of one key head of the buffer.
${workgroupEntry({ threads: MEMORY_THREADS, unit: "unit", of: "units", invocation: "local" })}
  let head = unit % uniforms.heads;
  let tile = unit / uniforms.heads;
  let memoryHead = uniforms.firstHead + head;
  for (var i = local; i < ${rows}u * uniforms.channels; i += ${MEMORY_THREADS}u) {
    let r = i / uniforms.channels;
    let channel = i % uniforms.channels;
    let slot = ringSlot(uniforms.first + min(tile * ${rows}u + r, uniforms.count - 1u));
    let key = ((head * uniforms.places + uniforms.place) * uniforms.stride + slot) * uniforms.quads;
    features[r * ${headSize}u + channel] = feature(readKeys(key + channel / 4u)[channel % 4u]);
  }
${lookup(
  headSize,
  `    let value = readValues((head * uniforms.stride + ringSlot(uniforms.first + row)) * uniforms.quads + quad);
    residual[(row * uniforms.keyHeads + memoryHead) * uniforms.quads + quad] = value - answer;`,
)}`;
  return { name, code, bindings: ["read", "read", "read", "read", "write"], uniforms: SEGMENT_TYPES, features: [] };
}

/**
 * Writes a segment of text to a memory: M += σ(K)ᵀ V, or with the residual M += σ(K)ᵀ residual, and z += Σ σ(K). A workgroup
 * has a tile of 16 rows and 16 columns of one key head's M; features and values pass through workgroup memory 16 tokens
 * at a time. `LayerMemory` of the reference judges it.
 *
 *     keys [K, places, stride, D], the copy without rotation, values [K, stride, D] or residual [segment, K, D]
 *       → M [K, D, D], z [K, D]
 */
export function memoryWriteKernel(update: "linear" | "delta", storage: Storage): Kernel {
  const name = ["memory-write", update, storage].join(" ");
  const linear = update === "linear";
  const { rows, quads } = WRITE_TILE;
  const code = `// ${name}
struct Uniforms {
  ${SEGMENT_UNIFORMS}
}

${storageCode("keys", 0, "read", storage)}${
    linear
      ? storageCode("values", 1, "read", storage)
      : "@group(0) @binding(1) var<storage, read> residual: array<vec4f>;\n"
  }@group(0) @binding(2) var<storage, read_write> matrix: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<uniform> uniforms: Uniforms;

var<workgroup> features: array<f32, ${MEMORY_THREADS * 4}>; // of 16 tokens and 16 channels
var<workgroup> values16: array<vec4f, ${MEMORY_THREADS}>; // of 16 tokens and 16 columns

${FEATURE}
${RING_SLOT}
// A unit is a tile of one key head's M.
${workgroupEntry({ threads: MEMORY_THREADS, unit: "unit", of: "units", invocation: "local" })}
  let head = unit % uniforms.heads; // in the buffer
  let across = (uniforms.quads + ${quads - 1}u) / ${quads}u;
  let tile = unit / uniforms.heads;
  let firstRow = tile / across * ${rows}u;
  let firstQuad = tile % across * ${quads}u;
  let memoryHead = uniforms.firstHead + head;
  let keyBase = (head * uniforms.places + uniforms.place) * uniforms.stride;
  let last = uniforms.quads - 1u;
  let i = local / ${quads}u; // the row of M, or the token that is loaded
  let j = local % ${quads}u; // the columns of M, or the channels that are loaded

  var sum = vec4f();
  var total = 0.0;
  for (var base = 0u; base < uniforms.count; base += ${rows}u) {
    let there = base + i < uniforms.count;
    let token = min(base + i, uniforms.count - 1u);
    let slot = ringSlot(uniforms.first + token);
    let keyQuad = firstRow / 4u + j;
    let valueQuad = firstQuad + j;
    let key = readKeys((keyBase + slot) * uniforms.quads + min(keyQuad, last));
    let value = ${
      linear
        ? "readValues((head * uniforms.stride + slot) * uniforms.quads + min(valueQuad, last))"
        : "residual[(token * uniforms.keyHeads + memoryHead) * uniforms.quads + min(valueQuad, last)]"
    };
    workgroupBarrier();
    for (var c = 0u; c < 4u; c++) {
      let channel = 4u * keyQuad + c;
      features[i * ${rows}u + 4u * j + c] = select(0.0, feature(key[c]), there && channel < uniforms.channels);
    }
    values16[local] = select(vec4f(), value, there && valueQuad <= last);
    workgroupBarrier();
    for (var t = 0u; t < ${rows}u; t++) {
      let weight = features[t * ${rows}u + i];
      sum += weight * values16[t * ${quads}u + j];
      total += weight;
    }
  }
  let row = firstRow + i;
  if (row >= uniforms.channels) { return; }
  if (firstQuad + j <= last) { matrix[(memoryHead * uniforms.headSize + row) * uniforms.quads + firstQuad + j] += sum; }
  if (firstQuad == 0u && j == 0u) { sums[memoryHead * uniforms.headSize + row] += total; }
}
`;
  return { name, code, bindings: ["read", "read", "write", "write"], uniforms: SEGMENT_TYPES, features: [] };
}

/** Workgroups of `memory-write` for one key head. */
export function writeTiles(shape: AttentionShape): number {
  return Math.ceil(shape.headSize / WRITE_TILE.rows) * Math.ceil(quadsOf(shape) / WRITE_TILE.quads);
}
