import { LongctxError } from "../../common/errors.ts";
import type { SplitSizes } from "../device/tilings.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { sectionOf, type AttentionTables } from "./lane-table.ts";
import {
  maximumCode,
  maximumDirective,
  maximumFeatures,
  maximumOf,
  maximumSteps,
  type Maximum,
} from "./attention-maximum.ts";
import {
  attentionClass,
  capName,
  groupOf,
  quadsOf,
  SHAPE_UNIFORMS,
  softCapCode,
  type AttentionShape,
  type LayerRing,
} from "./attention-shape.ts";
import { storageCode } from "./storage.ts";
import { workgroupEntry } from "../device/declare.ts";

/**
 * Attention of a few queries, split over keys: a workgroup takes one piece of what a query sees, all of which it does
 * see, for one key head and the query heads that share it. Nothing outside the plan is touched, so a window costs what
 * it shows. `attention-reduce` puts the pieces together.
 *
 *     queries [rotations, T, H, D], keys [K, places, stride, D], values [K, stride, D]
 *       → parts [pieces, H, D + 4]: sums of values by 2^(score − largest), then largest score and sum of weights
 *
 * `attentionOracle` (tests/oracles/attention.ts) judges it together with `attention-reduce`.
 */
export interface SplitKey {
  readonly shape: AttentionShape;
}

export interface SplitTiling {
  readonly threads: number;
  /** Query heads of one workgroup: a divisor of those that share a key head. */
  readonly heads: number;
  /** Most keys of a piece. */
  readonly longest: number;
  readonly maximum: Maximum;
}

const MOST_HEADS = 8;
const SIZES: SplitSizes = { threads: 64, longest: 256 };

/**
 * By the sizes given, else those of the adapter's tuning, else sensible ones; fewer keys or heads where a workgroup does
 * not hold them. @throws LongctxError "config" for heads so large that it does not hold one row
 */
export function splitTiling({ shape }: SplitKey, capabilities: Capabilities, sizes?: SplitSizes): SplitTiling {
  const wanted = sizes ?? capabilities.tuning?.pieces[attentionClass(shape)] ?? SIZES;
  const quads = quadsOf(shape);
  const threads = Math.max(Math.min(wanted.threads, capabilities.maxInvocations), 2 ** Math.ceil(Math.log2(quads)));
  const group = groupOf(shape);
  const divisors = Array.from({ length: MOST_HEADS }, (_, i) => MOST_HEADS - i).filter((heads) => group % heads === 0);
  const maximum = maximumOf(capabilities);
  if (threads <= capabilities.maxInvocations)
    for (const least of [wanted.longest / 4, 32])
      for (const heads of divisors) {
        // Queries, and of each thread a sum, a total, a peak and what finding the largest of them takes.
        const rest = 16 * heads * quads + (16 + 4 + 4 + 1) * threads * heads + 64;
        const longest = Math.min(wanted.longest, Math.floor((capabilities.maxWorkgroupMemory - rest) / (4 * heads)));
        if (longest >= least) return { threads, heads, longest, maximum };
      }
  throw new LongctxError(
    "config",
    `Heads of ${shape.headSize} channels do not fit this device's workgroups (${capabilities.maxWorkgroupMemory} bytes, ${capabilities.maxInvocations} threads); use --device cpu.`,
  );
}

export function splitKernel({ shape }: SplitKey, { threads, heads, longest, maximum }: SplitTiling): Kernel {
  const name = [
    "attention-split",
    quadsOf(shape),
    shape.storage,
    threads,
    heads,
    longest,
    maximum,
    ...capName(shape),
  ].join(" ");
  const all = Array.from({ length: heads }, (_, h) => h);
  const each = (line: (h: number) => string, indent: string) => all.map((h) => `${indent}${line(h)}\n`).join("");
  const code = `${maximumDirective(maximum)}// ${name}
const QUADS = ${quadsOf(shape)}u; // of channels in a row
const THREADS = ${threads}u;
const HEADS = ${heads}u; // query heads of this workgroup
const LONGEST = ${longest}u;
const LOWEST = -1e30;

/** \`slot\` is the first of \`count\` slots, or where the list of them begins. */
struct Piece { slot: u32, count: u32, place: u32, rotation: u32, row: u32, listed: u32 }
struct Listed { slot: u32, token: i32 }
struct Uniforms { rows: u32, pieces: u32, places: u32, stride: u32, firstHead: u32, ${SHAPE_UNIFORMS.fields} }

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
${storageCode("keys", 1, "read", shape.storage)}${storageCode("values", 2, "read", shape.storage)}@group(0) @binding(3) var<storage, read> pieces: array<Piece>;
@group(0) @binding(4) var<storage, read> lists: array<Listed>;
@group(0) @binding(5) var<storage, read_write> parts: array<vec4f>;
@group(0) @binding(6) var<uniform> uniforms: Uniforms;

var<workgroup> query: array<vec4f, HEADS * QUADS>;
var<workgroup> weights: array<f32, HEADS * LONGEST>;
var<workgroup> sums: array<vec4f, HEADS * THREADS>;
var<workgroup> totals: array<f32, HEADS * THREADS>;
${maximumCode(maximum, threads, heads)}${softCapCode(shape)}
fn slotOf(piece: Piece, j: u32) -> u32 {
  if (piece.listed == 1u) { return lists[piece.slot + j].slot; }
  return piece.slot + j;
}

${workgroupEntry({ threads, unit: "index", of: "pieces", invocation: "local" })}
  let piece = pieces[index];
  let share = uniforms.queryHeads / uniforms.keyHeads; // query heads of one key head
  let keyHead = group.z / (share / HEADS);
  let firstHead = (uniforms.firstHead + keyHead) * share + group.z % (share / HEADS) * HEADS;

  let asked = ((piece.rotation * uniforms.rows + piece.row) * uniforms.queryHeads + firstHead) * QUADS;
  for (var i = local; i < HEADS * uniforms.quads; i += THREADS) { query[i] = queries[asked + i]; }
  workgroupBarrier();

  // Scores: a thread for each key.
${each((h) => `var largest${h} = LOWEST;`, "  ")}  let keyBase = (keyHead * uniforms.places + piece.place) * uniforms.stride;
  for (var j = local; j < piece.count; j += THREADS) {
    let row = (keyBase + slotOf(piece, j)) * QUADS;
${each((h) => `var score${h} = 0.0;`, "    ")}    for (var quad = 0u; quad < uniforms.quads; quad++) {
      let key = readKeys(row + quad);
${each((h) => `score${h} += dot(query[${h}u * QUADS + quad], key);`, "      ")}    }
${shape.softCap === undefined ? "" : each((h) => `score${h} = capped(score${h});`, "    ")}${each((h) => `weights[${h}u * LONGEST + j] = score${h};`, "    ")}${each((h) => `largest${h} = max(largest${h}, score${h});`, "    ")}  }

${maximumSteps(
  maximum,
  threads,
  all.map((h) => `largest${h}`),
)}
  for (var j = local; j < piece.count; j += THREADS) {
${each((h) => `weights[${h}u * LONGEST + j] = exp2(weights[${h}u * LONGEST + j] - largest${h});`, "    ")}  }
  workgroupBarrier();

  // Values: a thread for each four channels, and the keys dealt out among as many threads as there are.
  let dealers = THREADS / QUADS;
  let dealer = local / QUADS;
  let quad = local % QUADS;
${each((h) => `var sum${h} = vec4f();`, "  ")}${each((h) => `var total${h} = 0.0;`, "  ")}  let valueBase = keyHead * uniforms.stride;
  if (dealer < dealers) {
    for (var j = dealer; j < piece.count; j += dealers) {
      let value = readValues((valueBase + slotOf(piece, j)) * QUADS + quad);
${each((h) => `let weight${h} = weights[${h}u * LONGEST + j];`, "      ")}${each((h) => `sum${h} += weight${h} * value;`, "      ")}${each((h) => `total${h} += weight${h};`, "      ")}    }
  }
  let part = (index * uniforms.queryHeads + firstHead) * (QUADS + 1u);
${each((h) => `sums[${h}u * THREADS + local] = sum${h};`, "  ")}${each((h) => `totals[${h}u * THREADS + local] = total${h};`, "  ")}  workgroupBarrier();
  if (dealer != 0u) { return; }
  for (var i = quad + QUADS; i < dealers * uniforms.quads; i += QUADS) {
${each((h) => `sum${h} += sums[${h}u * THREADS + i];`, "    ")}${each((h) => `total${h} += totals[${h}u * THREADS + i];`, "    ")}  }
${each((h) => `parts[part + ${h}u * (QUADS + 1u) + quad] = sum${h};`, "  ")}  if (quad == 0u) {
${each((h) => `parts[part + ${h}u * (QUADS + 1u) + QUADS] = vec4f(largest${h}, total${h}, 0.0, 0.0);`, "    ")}  }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "read", "read", "read", "write"],
    uniforms: ["u32", "u32", "u32", "u32", "u32", ...SHAPE_UNIFORMS.types],
    features: maximumFeatures(maximum),
  };
}

/** Where attention goes: `attended` [T, H, D], by way of `parts` where the tables have any. */
export interface AttentionGoal extends AttentionWork {
  readonly attended: GpuSlice;
  readonly parts: GpuSlice;
}

/** Bytes of the parts of so many pieces. */
export function partBytes(shape: AttentionShape, pieces: number): number {
  return 16 * Math.max(1, pieces) * shape.queryHeads * (quadsOf(shape) + 1);
}

export interface AttentionWork {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  /** As `rotate-and-store` left them. */
  readonly queries: GpuSlice;
  readonly ring: LayerRing;
}

/** One dispatch for each group of heads; none where no query sees anything. */
export function attentionSplit(
  kernel: Kernel,
  shape: AttentionShape,
  { heads }: SplitTiling,
  capabilities: Capabilities,
  { tables, uploaded, queries, ring, parts }: AttentionWork & { readonly parts: GpuSlice },
): Dispatch[] {
  if (tables.workCount === 0) return [];
  const [work, lists] = (["work", "lists"] as const).map((name) => sectionOf(tables, uploaded, name));
  const [x, y] = spread(tables.workCount, capabilities);
  return ring.groups.map((group) => ({
    kernel,
    buffers: [queries, group.keys, group.values, work, lists, parts],
    uniforms: [tables.count, tables.workCount, ring.places, ring.stride, group.firstHead, ...SHAPE_UNIFORMS.of(shape)],
    workgroups: [x, y, group.heads * (groupOf(shape) / heads)],
  }));
}
