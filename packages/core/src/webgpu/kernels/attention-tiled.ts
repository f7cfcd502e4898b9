import { LongctxError } from "../../errors.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../kernel.ts";
import { sectionOf } from "../lane-table.ts";
import { tileBytes } from "../tuning.ts";
import { tileDeclarations, tileEntry, TILE_INTERFACE } from "./attention-lanes.ts";
import { DenseAttention } from "../../reference/dense-attention.ts";
import type { AttentionPlan } from "../../plan.ts";
import {
  attendedSteps,
  cappedScore,
  capName,
  quadsOf,
  SHAPE_UNIFORMS,
  type AttentionShape,
} from "./attention-shape.ts";
import type { AttentionWork } from "./attention-split.ts";

/**
 * Attention of many queries: a workgroup takes a tile of them for one head, a thread for each, and goes over the lanes
 * that the tile sees with an online softmax. Keys and values pass through workgroup memory some at a time; scores are
 * never kept, so memory does not grow with queries × keys. What a thread's query does not see is masked by its token's
 * number; a query that sees nothing gets zeros.
 *
 *     queries [rotations, T, H, D], keys [K, places, stride, D], values [K, stride, D] → attended [T, H, D]
 */
export interface TiledKey {
  readonly shape: AttentionShape;
}

export interface TiledPlan {
  /** Queries of a workgroup, one a thread; the `tileRows` of the tables. */
  readonly rows: number;
  /** Keys in workgroup memory at once, an even number. */
  readonly keys: number;
}

/** @throws LongctxError "config" for heads so large that two rows do not fit a workgroup */
export function tiledPlan({ shape }: TiledKey, { maxWorkgroupMemory, maxInvocations }: Capabilities): TiledPlan {
  const rows = Math.min(64, maxInvocations);
  const bytes = tileBytes(shape, rows);
  const keys = [32, 16, 8, 4, 2].find((count) => count * bytes <= maxWorkgroupMemory);
  if (!keys)
    throw new LongctxError(
      "config",
      `Heads of ${shape.headSize} channels do not fit this device's workgroups (${maxWorkgroupMemory} bytes); use --device cpu.`,
    );
  return { rows, keys };
}

export function tiledKernel({ shape }: TiledKey, { rows, keys }: TiledPlan): Kernel {
  const name = ["attention-tiled", shape.headSize, shape.storage, rows, keys, ...capName(shape)].join(" ");
  const quads = Array.from({ length: quadsOf(shape) }, (_, c) => c);
  const each = (line: (c: number) => string, indent: string) => quads.map((c) => `${indent}${line(c)}\n`).join("");
  const code = `// ${name}
${tileDeclarations(shape)}
const ROWS = ${rows}u; // queries of a workgroup
const KEYS = ${keys}u; // keys and values in workgroup memory
var<workgroup> keyTile: array<vec4f, KEYS * QUADS>;
var<workgroup> valueTile: array<vec4f, KEYS * QUADS>;
var<workgroup> tokens: array<i32, KEYS>;
var<workgroup> scores: array<f32, KEYS * ROWS>; // each thread's own column

${tileEntry({ threads: rows, invocation: "local" })}
  let row = tile.row + min(local, tile.rows - 1u); // threads too many do what the last one does
  let token = uniforms.first + i32(row);

  var largest = LOWEST;
  var total = 0.0;
${each((c) => `var sum${c} = vec4f();`, "  ")}
  for (var l = tile.begin; l < tile.end; l++) {
    let lane = lanes[l];
    // Tokens [seenFrom, seenTo) are in the band of this thread's query.
    let asks = token >= lane.queriesFrom && token < lane.queriesTo;
    let seenFrom = token - lane.bandTo + 1;
    let seenTo = select(seenFrom, token - lane.bandFrom + 1, asks);
    let keyBase = (keyHead * uniforms.places + lane.place) * uniforms.stride;
    let valueBase = keyHead * uniforms.stride;
    let asked = ((lane.rotation * uniforms.rows + row) * uniforms.queryHeads + head) * QUADS;
${each((c) => `let query${c} = queries[asked + ${c}u];`, "    ")}
    for (var base = 0u; base < lane.count; base += KEYS) {
      workgroupBarrier();
      // Bounds that compilers do not know keep them from unrolling what only copies.
      for (var i = local; i < KEYS * uniforms.quads; i += ROWS) {
        let slot = slotOf(lane, min(base + i / QUADS, lane.count - 1u));
        keyTile[i] = readKeys((keyBase + slot) * QUADS + i % QUADS);
        valueTile[i] = readValues((valueBase + slot) * QUADS + i % QUADS);
      }
      if (local < KEYS) { tokens[local] = tokenOf(lane, base + local); }
      workgroupBarrier();

      let count = min(KEYS, lane.count - base);
      let before = largest;
      for (var j = 0u; j < count; j += 2u) {
        let first = j * QUADS;
        let second = first + QUADS;
        var products = query0 * keyTile[first];
        var others = query0 * keyTile[second];
${quads
  .slice(1)
  .map(
    (c) => `        products = fma(query${c}, keyTile[first + ${c}u], products);
        others = fma(query${c}, keyTile[second + ${c}u], others);
`,
  )
  .join("")}        let seen = tokens[j] >= seenFrom && tokens[j] < seenTo;
        let seenToo = tokens[j + 1u] >= seenFrom && tokens[j + 1u] < seenTo;
        let score = select(LOWEST, ${cappedScore(shape, "dot(products, vec4f(1.0))")}, seen);
        let other = select(LOWEST, ${cappedScore(shape, "dot(others, vec4f(1.0))")}, seenToo);
        scores[j * ROWS + local] = score;
        scores[(j + 1u) * ROWS + local] = other;
        largest = max(largest, max(score, other));
      }

      let shrink = exp2(before - largest);
      total *= shrink;
${each((c) => `sum${c} *= shrink;`, "      ")}      for (var j = 0u; j < count; j++) {
        let score = scores[j * ROWS + local];
        let weight = select(0.0, exp2(score - largest), score > LOWEST); // some devices have no exp2 that is quite zero
        let first = j * QUADS;
        total += weight;
${each((c) => `sum${c} = fma(vec4f(weight), valueTile[first + ${c}u], sum${c});`, "        ")}      }
    }
  }

  if (local >= tile.rows) { return; }
  let scale = select(1.0 / total, 0.0, total == 0.0);
${attendedSteps(shape, "row * uniforms.queryHeads + head", (c) => `sum${c} * scale`)}}
`;
  return {
    name,
    code,
    ...TILE_INTERFACE,
    features: [],
  };
}

/** One dispatch for each group of heads. */
export function attentionTiled(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, queries, cache, attended }: AttentionWork & { readonly attended: GpuSlice },
): Dispatch[] {
  const [work, lanes, lists] = (["work", "lanes", "lists"] as const).map((name) => sectionOf(tables, uploaded, name));
  const [x, y] = spread(tables.workCount, capabilities);
  return cache.groups.map((group) => ({
    kernel,
    buffers: [queries, group.keys, group.values, work, lanes, lists, attended],
    uniforms: [
      tables.count,
      tables.first,
      tables.workCount,
      cache.places,
      cache.stride,
      group.firstHead,
      ...SHAPE_UNIFORMS.of(shape),
    ],
    workgroups: [x, y, (group.heads * shape.queryHeads) / shape.keyHeads],
  }));
}

/** What a chunk's queries attend to, for both ways of computing it. */
export interface AttentionInput {
  readonly plan: AttentionPlan;
  /** Text index of the first query. */
  readonly first: number;
  /** Not rotated, [T, H, D]. */
  readonly queries: Float64Array;
  /** Those that the cache holds. */
  readonly tokens: readonly number[];
  /** Not rotated, [n, K, D]. */
  readonly keys: Float64Array;
  readonly values: Float64Array;
}

/** Float64, pair by pair: [T, H, D]. */
export function attentionReference(
  shape: Pick<AttentionShape, "queryHeads" | "keyHeads" | "headSize" | "softCap">,
  { plan, first, queries, tokens, keys, values }: AttentionInput,
): Float64Array {
  const { queryHeads, keyHeads, headSize, softCap } = shape;
  const heads = { queryHeads, keyHeads, headSize, attentionSoftCap: softCap };
  const dense = new DenseAttention(heads, plan, tokens, keys);
  const size = queryHeads * headSize;
  const attended = new Float64Array(queries.length);
  for (let t = 0; t * size < queries.length; t++) {
    const seen = dense.row(first + t, queries.slice(t * size, (t + 1) * size));
    for (let h = 0; h < queryHeads; h++) {
      const keyHead = Math.floor((h * keyHeads) / queryHeads);
      seen.tokens.forEach((n, j) => {
        const weight = seen.probabilities[h * seen.tokens.length + j];
        const value = (n * keyHeads + keyHead) * headSize;
        for (let d = 0; d < headSize; d++) attended[t * size + h * headSize + d] += weight * values[value + d];
      });
    }
  }
  return attended;
}
