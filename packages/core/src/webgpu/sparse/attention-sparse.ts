import {
  capName,
  cappedScore,
  groupOf,
  quadsOf,
  SHAPE_UNIFORMS,
  softCapCode,
  type AttentionShape,
  type LayerRing,
} from "../attention/attention-shape.ts";
import { sectionOf, type AttentionTables } from "../attention/lane-table.ts";
import { storageCode } from "../attention/storage.ts";
import { RING_SLOT, RING_UNIFORMS } from "../attention/token-slots.ts";
import { memoised, workgroupEntry } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { inSteps } from "../device/submissions.ts";
import type { RingLayout } from "../../method/method.ts";
import { NONE, RUN_STRUCT } from "./run-tables.ts";
import { COSINE_CODE, scoreCode, turnsByFours } from "./sparse-scores.ts";
import { sparseSection, type SparseSection, type SparseTables } from "./sparse-tables.ts";

/** How two vectors are compared: by their product, or by the cosine of their angle times a factor of the head. */
export type Likeness = "product" | "cosine";

const kernelOf = memoised(sparseKernel);

/** Invocations of a workgroup: a key each at a time, and of values four channels each. */
function threadsOf(shape: AttentionShape): number {
  return Math.max(64, 2 ** Math.ceil(Math.log2(quadsOf(shape))));
}

/**
 * Attention to tokens that each query, or each of several heads, has chosen for itself: a workgroup has a row and a query
 * head and goes over the entries of its lists with an online softmax. Entries are blocks of consecutive tokens or single
 * tokens; a token is seen within the run's band of distances. What it finds is a part of the row, which `attention-reduce`
 * puts together with others, or `gate-branch` mixes. `attentionOracle` (tests/oracles/attention.ts) judges it.
 *
 *     queries [rotations, T, H, D], keys [K, places, stride, D], values [K, stride, D], lists [answers, heads, entries]
 *       → parts [parts, H, D + 4]: sums of values by 2^(score − largest), then largest score and sum of weights
 *
 * "product" reads the row's part from `ranges` and turns queries by `turns`; "cosine" has neither, its queries are divided
 * by the factor of their row, and its scores are scale · cos(q, k) with norms of at least 1e-6.
 */
export function sparseKernel(shape: AttentionShape, likeness: Likeness): Kernel {
  const cosine = likeness === "cosine";
  const quads = quadsOf(shape);
  const threads = threadsOf(shape);
  const name = [
    "attention-sparse",
    likeness,
    quads,
    shape.storage,
    ...(cosine ? [] : [turnsByFours(shape) ? "turns of 4 pairs" : "turns", ...capName(shape)]),
  ].join(" ");
  const code = `// ${name}
const QUADS = ${quads}u; // of channels in a row
const THREADS = ${threads}u;
const LOWEST = -1e30; // the score of what is not seen
const NONE = ${NONE}u;

/** Entry b stands for tokens [begin + b · size, begin + (b + 1) · size). */
${RUN_STRUCT}
${cosine ? "struct Row { slot: u32, scale: f32 }" : "struct Range { begin: u32, end: u32 }"}
struct Uniforms {
  units: u32, firstUnit: u32, rows: u32, first: i32, firstRun: u32, endRun: u32, places: u32, stride: u32,
  firstHead: u32, heads: u32, ${cosine ? "part: u32, parts: u32, scaleAt: u32" : "back: u32"},
  ${RING_UNIFORMS.fields}, ${SHAPE_UNIFORMS.fields},
}

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
${storageCode("keys", 1, "read", shape.storage)}${storageCode("values", 2, "read", shape.storage)}@group(0) @binding(3) var<storage, read> runs: array<Run>;
@group(0) @binding(4) var<storage, read> lists: array<u32>;
${
  cosine
    ? `@group(0) @binding(5) var<storage, read> rows: array<Row>;
@group(0) @binding(6) var<storage, read> scales: array<f32>;`
    : `@group(0) @binding(5) var<storage, read> turns: array<vec2f>;
@group(0) @binding(6) var<storage, read> ranges: array<Range>;`
}
@group(0) @binding(7) var<storage, read_write> parts: array<vec4f>;
@group(0) @binding(8) var<uniform> uniforms: Uniforms;

var<workgroup> query: array<vec4f, QUADS>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> slots: array<u32, THREADS>;
var<workgroup> sums: array<vec4f, THREADS>;
var<workgroup> totals: array<f32, THREADS>;

${cosine ? COSINE_CODE : `${softCapCode(shape)}${scoreCode(shape)}`}${RING_SLOT}
// A unit is a row and a query head of the ring's buffer.
${workgroupEntry({ threads, unit: "index", of: "units", invocation: "local" })}
  let unit = uniforms.firstUnit + index;
  let share = uniforms.queryHeads / uniforms.keyHeads; // query heads of one key head
  let row = unit / (uniforms.heads * share);
  let ownHead = unit % (uniforms.heads * share); // in the buffer
  let head = uniforms.firstHead * share + ownHead;
  let keyHead = ownHead / share; // in the buffer
  let token = uniforms.first + i32(row);
  let dealers = THREADS / QUADS;
  let dealer = local / QUADS;
  let quad = local % QUADS;

  var largest = LOWEST;
  var total = 0.0;
  var sum = vec4f();
  for (var r = uniforms.firstRun; r < uniforms.endRun; r++) {
    let run = runs[r];
    if (row < run.seeingFrom || row >= run.seeingTo) { continue; }
    workgroupBarrier();
    let asked = ((run.rotation * uniforms.rows + row) * uniforms.queryHeads + head) * QUADS;
    for (var i = local; i < QUADS; i += THREADS) { query[i] = queries[asked + i]${cosine ? " / rows[row].scale" : ""}; }
    workgroupBarrier();
${cosine ? `    let factor = scales[uniforms.scaleAt + head] * ${Math.LOG2E}f / lengthOfQuery();\n` : ""}    let answer = select(row - run.firstRow, 0u, run.answers == 1u);
    let list = run.list + (answer * run.lists + head * run.lists / uniforms.queryHeads) * run.entries;
    let keyBase = (keyHead * uniforms.places + run.place) * uniforms.stride;
    let count = (run.rankTo - run.rankFrom) * run.size;
    for (var base = 0u; base < count; base += THREADS) {
      // Scores: an invocation for each key.
      let j = base + local;
      let rank = min(j / run.size, run.rankTo - run.rankFrom - 1u);
      let entry = lists[list + run.rankFrom + rank];
      let seenToken = run.begin + entry * run.size + j % run.size;
      let distance = token - i32(seenToken);
      let seen = j < count && entry != NONE && distance >= run.bandFrom && distance < run.bandTo;
      var score = LOWEST;
      var slot = 0u;
      if (seen) {
        slot = ringSlot(seenToken);
        let key = (keyBase + slot) * QUADS;
        ${cosine ? "score = factor * cosineOf(key);" : `score = ${cappedScore(shape, "scoreOf(key, run.turn, run.turnStep * rank)")};`}
      }
      scores[local] = score;
      slots[local] = slot;
      totals[local] = score;
      workgroupBarrier();
      for (var step = THREADS / 2u; step > 0u; step /= 2u) {
        if (local < step) { totals[local] = max(totals[local], totals[local + step]); }
        workgroupBarrier();
      }
      let before = largest;
      largest = max(largest, totals[0]);
      let shrink = exp2(before - largest);
      // Some devices have no exp2 that is quite zero.
      scores[local] = select(0.0, exp2(score - largest), seen);
      workgroupBarrier();

      // Values: an invocation for each four channels, and the keys dealt out among as many as there are.
      sum *= shrink;
      total *= shrink;
      if (dealer < dealers) {
        for (var k = dealer; k < min(THREADS, count - base); k += dealers) {
          let weight = scores[k];
          sum += weight * readValues((keyHead * uniforms.stride + slots[k]) * QUADS + quad);
          total += weight;
        }
      }
      workgroupBarrier();
    }
  }
  sums[local] = sum;
  totals[local] = total;
  workgroupBarrier();
  if (local >= QUADS) { return; }
  for (var other = 1u; other < dealers; other++) {
    sum += sums[other * QUADS + quad];
    total += totals[other * QUADS + quad];
  }
  let part = (${cosine ? "row * uniforms.parts + uniforms.part" : "ranges[row].end - uniforms.back"}) * uniforms.queryHeads + head;
  parts[part * (QUADS + 1u) + quad] = sum;
  if (quad == 0u) { parts[part * (QUADS + 1u) + QUADS] = vec4f(largest, total, 0.0, 0.0); }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "read", "read", "read", "read", "read", "write"],
    uniforms: [
      "u32",
      "u32",
      "u32",
      "i32",
      ...Array<"u32">(6 + (cosine ? 3 : 1)).fill("u32"),
      ...RING_UNIFORMS.types,
      ...SHAPE_UNIFORMS.types,
    ],
    features: [],
  };
}

/** What sparse attention reads of a layer, beside the lists. */
export interface SparseAttention {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  readonly sparse: SparseTables;
  /** Where `sparse.bytes` was uploaded. */
  readonly sparseUploaded: GpuSlice;
  /** As `rotate-and-store` left them. */
  readonly queries: GpuSlice;
  readonly ring: LayerRing;
  readonly layout: RingLayout;
  /** Lists that the device has chosen. */
  readonly chosen: GpuSlice;
  readonly parts: GpuSlice;
}

/** The factors of cosines, [L, H], and the layer. */
export interface CosineScales {
  readonly scales: GpuSlice;
  readonly layer: number;
}

/** Where a row's parts go: behind those of attention, or [T, parts of a row] for a gated branch. */
export type PartGoal = "joint" | "gated";

/** One dispatch for each work and each group of heads, or some where it is much work. */
export function attentionSparse(
  shape: AttentionShape,
  capabilities: Capabilities,
  attention: SparseAttention,
  goal: PartGoal,
  cosine?: CosineScales,
): Dispatch[] {
  const { tables, uploaded, sparse, sparseUploaded, queries, ring, layout, chosen, parts } = attention;
  const works = (goal === "joint" ? sparse.joint : sparse.gated) ?? [];
  const section = (name: SparseSection) => sparseSection(sparse, sparseUploaded, name);
  const ranges = goal === "joint" ? sectionOf(tables, uploaded, "ranges") : section("ranges");
  return works.flatMap((work, i) =>
    ring.groups.flatMap((group) => {
      const units = tables.count * group.heads * groupOf(shape);
      const multiplications = 2 * units * work.keys * shape.headSize;
      const goesTo = cosine ? [i, works.length, cosine.layer * shape.queryHeads] : [works.length - i];
      return inSteps(units, multiplications).map(({ from, to }): Dispatch => ({
        kernel: kernelOf(shape, cosine ? "cosine" : "product"),
        buffers: [
          queries,
          group.keys,
          group.values,
          section("runs"),
          work.given ? section("lists") : chosen,
          ...(cosine ? [sectionOf(tables, uploaded, "rows"), cosine.scales] : [section("turns"), ranges]),
          parts,
        ],
        uniforms: [
          to - from,
          from,
          tables.count,
          tables.first,
          work.from,
          work.to,
          ring.places,
          ring.stride,
          group.firstHead,
          group.heads,
          ...goesTo,
          ...RING_UNIFORMS.of(layout),
          ...SHAPE_UNIFORMS.of(shape),
        ],
        workgroups: spread(to - from, capabilities),
        work: tables.count > 1 ? (multiplications * (to - from)) / units : undefined,
      }));
    }),
  );
}
