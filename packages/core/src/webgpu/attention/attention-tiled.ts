import { LongctxError } from "../../common/errors.ts";
import { spread, type Capabilities, type Dispatch, type Kernel } from "../device/kernel.ts";
import { sectionOf } from "./lane-table.ts";
import { inSteps } from "../device/submissions.ts";
import type { QueryTiling } from "../device/tilings.ts";
import {
  LANE_OF_QUERY,
  loadKeyTile,
  tileDeclarations,
  tileEntry,
  TILE_INTERFACE,
  type TileOutput,
} from "./attention-lanes.ts";
import {
  attendedSteps,
  cappedScore,
  capName,
  groupOf,
  quadsOf,
  SHAPE_UNIFORMS,
  type AttentionShape,
} from "./attention-shape.ts";
import { sharedTilesCode } from "./attention-shared.ts";
import type { AttentionGoal } from "./attention-split.ts";

/**
 * Attention of many queries: a workgroup takes a tile of them for one head, an invocation or some neighbours for each, and
 * goes over the lanes that the tile sees with an online softmax. Keys and values pass through workgroup memory some at a
 * time; scores are never kept, so memory does not grow with queries × keys. What a query does not see is masked by its
 * token's number; a query that sees nothing gets zeros.
 *
 *     queries [rotations, T, H, D], keys [K, places, stride, D], values [K, stride, D] → attended [T, H, D]
 *
 * Where tiles are few, each takes a range of the keys and writes parts for `attention-reduce`, as `attention-split` does.
 * `attentionOracle` (tests/oracles/attention.ts) judges it.
 */
export interface TiledKey {
  readonly shape: AttentionShape;
}

/** Of workgroup memory, on hardware: what leaves room for several workgroups on a compute unit. */
const MOST_MEMORY = 16_384;
/** Of an invocation on hardware: with as many of its sum they are 64 registers, which GPUs have without spilling. */
const MOST_QUADS = 8;

/** Workgroup memory that a key and its value take with the scores of a tile's queries. */
export function tileBytes(shape: AttentionShape, rows: number, teamSize = 1): number {
  return 2 * 16 * quadsOf(shape) + 4 * rows * teamSize + 4;
}

/** @throws LongctxError "config" for heads so large that two rows do not fit a workgroup */
export function queryTiling({ shape }: TiledKey, capabilities: Capabilities): QueryTiling {
  const { maxWorkgroupMemory, maxInvocations, software } = capabilities;
  const teamSize = software || shape.headSize % 4 !== 0 ? 1 : 2 ** Math.ceil(Math.log2(Math.max(1, quadsOf(shape) / MOST_QUADS))); // prettier-ignore
  const rows = Math.min(64, Math.floor((software ? maxInvocations : Math.min(256, maxInvocations)) / teamSize));
  const bytes = tileBytes(shape, rows, teamSize);
  const fitting = (memory: number) =>
    (software ? [32, 16, 8, 4, 2] : [32, 16, 12, 8, 6, 4, 2]).find((count) => count * bytes <= memory);
  const keys = (!software && fitting(Math.min(MOST_MEMORY, maxWorkgroupMemory))) || fitting(maxWorkgroupMemory);
  if (!keys || rows < 1)
    throw new LongctxError(
      "config",
      `Heads of ${shape.headSize} channels do not fit this device's workgroups (${maxWorkgroupMemory} bytes); use --device cpu.`,
    );
  return teamSize > 1 ? { rows, keys, teamSize } : { rows, keys };
}

export function tiledKernel({ shape }: TiledKey, tiling: QueryTiling, output: TileOutput = "attended"): Kernel {
  const { rows, keys, teamSize = 1 } = tiling;
  const shared = teamSize > 1 ? [`${teamSize} lanes`] : [];
  const parts = output === "parts" ? ["parts"] : [];
  const name = ["attention-tiled", shape.headSize, shape.storage, rows, keys, ...shared, ...parts, ...capName(shape)].join(" "); // prettier-ignore
  const code =
    teamSize > 1
      ? sharedTilesCode(name, shape, { rows, keys, teamSize }, output)
      : ownTilesCode(name, shape, { rows, keys }, output);
  return { name, code, ...TILE_INTERFACE, features: [] };
}

/** An invocation for each query. */
function ownTilesCode(name: string, shape: AttentionShape, { rows, keys }: QueryTiling, output: TileOutput): string {
  const quads = Array.from({ length: quadsOf(shape) }, (_, c) => c);
  const each = (line: (c: number) => string, indent: string) => quads.map((c) => `${indent}${line(c)}\n`).join("");
  return `// ${name}
${tileDeclarations(shape, output)}
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
${LANE_OF_QUERY}
${each((c) => `let query${c} = queries[asked + ${c}u];`, "    ")}
    for (var base = 0u; base < lane.count; base += KEYS) {
${loadKeyTile("ROWS")}

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
${
  output === "parts"
    ? `  let part = ((tile.part + local * tile.step) * uniforms.queryHeads + head) * (QUADS + 1u);
${each((c) => `parts[part + ${c}u] = sum${c};`, "  ")}  parts[part + QUADS] = vec4f(largest, total, 0.0, 0.0);
`
    : `  let scale = select(1.0 / total, 0.0, total == 0.0);
${attendedSteps(shape, "row * uniforms.queryHeads + head", (c) => `sum${c} * scale`)}`
}}
`;
}

/**
 * One dispatch for each group of heads, or some where it is too much work for one. The kernel is one that writes parts
 * where the tables have any.
 */
export function attentionTiled(
  kernel: Kernel,
  shape: AttentionShape,
  capabilities: Capabilities,
  { tables, uploaded, queries, ring, attended, parts }: AttentionGoal,
): Dispatch[] {
  const output = tables.partCount > 0 ? parts : attended;
  const [work, lanes, lists] = (["work", "lanes", "lists"] as const).map((name) => sectionOf(tables, uploaded, name));
  return ring.groups.flatMap((group) => {
    const heads = group.heads * groupOf(shape);
    const all = 2 * tables.scores * heads * shape.headSize;
    return inSteps(tables.workCount, all).map(({ from, to }) => {
      const [x, y] = spread(to - from, capabilities);
      return {
        kernel,
        buffers: [queries, group.keys, group.values, work, lanes, lists, output],
        uniforms: [
          tables.count,
          tables.first,
          from,
          to - from,
          ring.places,
          ring.stride,
          group.firstHead,
          ...SHAPE_UNIFORMS.of(shape),
        ],
        workgroups: [x, y, heads] as const,
        work: (all * (to - from)) / tables.workCount,
      };
    });
  });
}
