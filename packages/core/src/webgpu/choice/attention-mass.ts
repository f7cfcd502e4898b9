import {
  cappedScore,
  capName,
  groupOf,
  quadsOf,
  SHAPE_UNIFORMS,
  softCapCode,
  type AttentionShape,
  type LayerRing,
} from "../attention/attention-shape.ts";
import { sectionOf, type AttentionTables } from "../attention/lane-table.ts";
import { storageCode } from "../attention/storage.ts";
import { declareKernel, each, lines, memoised, workgroupEntry } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { inSteps } from "../device/submissions.ts";
import { MASS_LANE, type MassLanes } from "./mass-lanes.ts";

const totalsKernelOf = memoised(rowTotalsKernel);
const massKernelOf = memoised(attentionMassKernel);
/** A token for each invocation. */
const THREADS = 64;
/** Queries whose products with a key are summed at once, for the key is loaded once for all of them; fewer of large heads. */
const MOST_QUERIES = 8;
const MOST_QUADS = 512;

/**
 * The logarithm, to the base 2, of the sum of a row's weights, 2^score; so large a number that all weights vanish where a
 * row sees nothing. An invocation has a row and a head.
 *
 *     parts [parts, H, D + 4] as `attention-split` writes them → totals [T, H]
 */
export function rowTotalsKernel(): Kernel {
  return declareKernel({
    name: "row-totals",
    storage: [
      ["parts", "vec4f", "read"],
      ["ranges", "vec2u", "read"],
      ["totals", "f32", "write"],
    ],
    uniforms: { units: "u32", queryHeads: "u32", quads: "u32" },
    body: `
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let unit = (group.x + group.y * groups.x) * ${THREADS}u + local;
  if (unit >= uniforms.units) { return; }
  let range = ranges[unit / uniforms.queryHeads];
  let head = unit % uniforms.queryHeads;
  var largest = -1e30;
  var total = 0.0;
  for (var i = range.x; i < range.y; i++) {
    let known = parts[(i * uniforms.queryHeads + head) * (uniforms.quads + 1u) + uniforms.quads];
    let before = largest;
    largest = max(largest, known.x);
    total = total * exp2(before - largest) + known.y * exp2(known.x - largest);
  }
  totals[unit] = select(largest + log2(total), 1e30, total == 0.0);
}`,
  });
}

/**
 * Adds to each token's attention mass its probabilities under the rows of a chunk, 2^(score − total of the row), summed over
 * the query heads of a key head; scores are computed once more from queries and keys. A workgroup has 64 tokens and a key
 * head, and goes over the lanes that show some of them. `AttentionMass` of the reference judges it.
 *
 *     queries [rotations, T, H, D], keys [K, places, stride, D], totals [T, H] → mass [tokens, K]
 */
export function attentionMassKernel(shape: AttentionShape): Kernel {
  const name = ["attention-mass", quadsOf(shape), shape.storage, ...capName(shape)].join(" ");
  const atOnce = Math.max(1, Math.min(MOST_QUERIES, Math.floor(MOST_QUADS / quadsOf(shape))));
  const queries = <T>(make: (q: number) => T) => each(atOnce, make);
  const code = `// ${name}
const QUADS = ${quadsOf(shape)}u; // of channels in a row
const THREADS = ${THREADS}u;
const QUERIES = ${atOnce}u;

/** \`slot\` is the first of \`count\` slots of tokens from \`token\` on. */
${MASS_LANE}
struct Uniforms {
  tiles: u32, firstTile: u32, rows: u32, first: i32, lanes: u32, tokenFrom: i32, tokenTo: i32, places: u32, stride: u32,
  firstHead: u32, ${SHAPE_UNIFORMS.fields},
}

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
${storageCode("keys", 1, "read", shape.storage)}@group(0) @binding(2) var<storage, read> lanes: array<Lane>;
@group(0) @binding(3) var<storage, read> totals: array<f32>;
@group(0) @binding(4) var<storage, read_write> mass: array<f32>;
@group(0) @binding(5) var<uniform> uniforms: Uniforms;

var<workgroup> query: array<vec4f, QUERIES * QUADS>;

${softCapCode(shape)}
// A tile is 64 tokens; z counts the key heads of the buffer.
${workgroupEntry({ threads: THREADS, unit: "index", of: "tiles", invocation: "local" })}
  let begin = uniforms.tokenFrom + i32((uniforms.firstTile + index) * THREADS);
  let end = min(begin + i32(THREADS), uniforms.tokenTo);
  let token = begin + i32(local);
  let share = uniforms.queryHeads / uniforms.keyHeads; // query heads of one key head
  let firstHead = (uniforms.firstHead + group.z) * share;
  var sum = 0.0;
  for (var l = 0u; l < uniforms.lanes; l++) {
    let lane = lanes[l];
    let inside = token >= lane.token && token < min(lane.token + lane.count, end);
    // Rows [rowFrom, rowTo) see some token of the tile through the lane.
    let rowFrom = max(max(begin, lane.token) + lane.bandFrom, lane.queriesFrom) - uniforms.first;
    let rowTo = min(min(end, lane.token + lane.count) - 1 + lane.bandTo, lane.queriesTo) - uniforms.first;
    if (lane.token >= end || lane.token + lane.count <= begin || rowFrom >= rowTo) { continue; }
    let slot = lane.slot + u32(clamp(token - lane.token, 0, lane.count - 1));
    let key = ((group.z * uniforms.places + lane.place) * uniforms.stride + slot) * QUADS;
    let units = u32(rowTo - rowFrom) * share; // rows and query heads
    for (var base = 0u; base < units; base += QUERIES) {
      workgroupBarrier();
      for (var i = local; i < QUERIES * QUADS; i += THREADS) {
        let unit = min(base + i / QUADS, units - 1u);
        let row = u32(rowFrom) + unit / share;
        let asked = ((lane.rotation * uniforms.rows + row) * uniforms.queryHeads + firstHead + unit % share) * QUADS;
        query[i] = queries[asked + i % QUADS];
      }
      workgroupBarrier();
${lines(queries((q) => `      var score${q} = 0.0;`))}
      for (var quad = 0u; quad < uniforms.quads; quad++) {
        let channels = readKeys(key + quad);
${lines(queries((q) => `        score${q} += dot(query[${q}u * QUADS + quad], channels);`))}
      }
${lines(
  queries((q) => [
    "      {",
    `        let unit = base + ${q}u;`,
    "        let row = rowFrom + i32(min(unit, units - 1u) / share);",
    "        let distance = uniforms.first + row - token;",
    "        let seen = inside && unit < units && distance >= lane.bandFrom && distance < lane.bandTo;",
    "        let total = totals[u32(row) * uniforms.queryHeads + firstHead + unit % share];",
    `        sum += select(0.0, exp2(${cappedScore(shape, `score${q}`)} - total), seen);`,
    "      }",
  ]).flat(),
)}
    }
  }
  if (token < end) { mass[u32(token) * uniforms.keyHeads + uniforms.firstHead + group.z] += sum; }
}
`;
  return {
    name,
    code,
    bindings: ["read", "read", "read", "read", "write"],
    uniforms: ["u32", "u32", "u32", "i32", "u32", "i32", "i32", "u32", "u32", "u32", ...SHAPE_UNIFORMS.types],
    features: [],
  };
}

export interface CountedMass {
  readonly tables: AttentionTables;
  /** Where `tables.bytes` was uploaded. */
  readonly uploaded: GpuSlice;
  readonly lanes: MassLanes;
  /** Where `lanes.words` were uploaded. */
  readonly laneWords: GpuSlice;
  /** As `rotate-and-store` left them. */
  readonly queries: GpuSlice;
  readonly ring: LayerRing;
  /** All parts of the rows, as `attention-reduce` reads them. */
  readonly parts: GpuSlice;
  /** Takes 4 · T · H bytes. */
  readonly totals: GpuSlice;
  /** [tokens, K] */
  readonly mass: GpuSlice;
}

/** The totals of all rows, and one dispatch for each group of heads, or some where it is much work. */
export function countMass(shape: AttentionShape, capabilities: Capabilities, work: CountedMass): Dispatch[] {
  const { tables, uploaded, lanes, laneWords, queries, ring, parts, totals, mass } = work;
  const { tokens, laneCount } = lanes;
  const units = tables.count * shape.queryHeads;
  const tiles = Math.ceil((tokens.to - tokens.from) / THREADS);
  return [
    {
      kernel: totalsKernelOf(),
      buffers: [parts, sectionOf(tables, uploaded, "ranges"), totals],
      uniforms: [units, shape.queryHeads, quadsOf(shape)],
      workgroups: spread(Math.ceil(units / THREADS), capabilities),
    },
    ...ring.groups.flatMap(({ firstHead, heads, keys }) => {
      const all = tiles * THREADS * tables.count * heads * groupOf(shape) * shape.headSize;
      return inSteps(tiles, all).map(({ from, to }): Dispatch => {
        const [x, y] = spread(to - from, capabilities);
        return {
          kernel: massKernelOf(shape),
          buffers: [queries, keys, laneWords, totals, mass],
          uniforms: [
            to - from,
            from,
            tables.count,
            tables.first,
            laneCount,
            tokens.from,
            tokens.to,
            ring.places,
            ring.stride,
            firstHead,
            ...SHAPE_UNIFORMS.of(shape),
          ],
          workgroups: [x, y, heads],
          work: tables.count > 1 ? (all * (to - from)) / tiles : undefined,
        };
      });
    }),
  ];
}
