import { attendedCode, quadsOf, SHAPE_UNIFORMS, softCapCode, type AttentionShape } from "./attention-shape.ts";
import { storageCode } from "./storage.ts";
import { workgroupEntry, type WorkgroupEntry } from "../device/declare.ts";

/** The bindings and uniforms of kernels that take a tile of queries and go over the lanes it sees (lane-table.ts). */
export const TILE_INTERFACE = {
  bindings: ["read", "read", "read", "read", "read", "read", "write"],
  uniforms: ["u32", "i32", "u32", "u32", "u32", "u32", "u32", ...SHAPE_UNIFORMS.types],
} as const;

/** Rows as they are, or what a range of a row's keys makes of it, as `attention-split` writes it. */
export type TileOutput = "attended" | "parts";

/** What such kernels declare: all of the above, and `slotOf(lane, j)` and `tokenOf(lane, j)` of a lane's j-th key. */
export function tileDeclarations(shape: AttentionShape, output: TileOutput = "attended"): string {
  const written =
    output === "attended"
      ? attendedCode(shape, 6)
      : "@group(0) @binding(6) var<storage, read_write> parts: array<vec4f>;";
  return `const QUADS = ${quadsOf(shape)}u; // of channels in a row
const LOWEST = -1e30; // the score of what is not seen
const NOBODY = 0x7fffffffi; // a token that no query sees

/** \`part\` is the first row's, of \`step\` for each row. */
struct Tile { row: u32, rows: u32, begin: u32, end: u32, part: u32, step: u32 }
/** \`slot\` is the first of \`count\` slots of tokens from \`token\` on, or where the list of them begins. */
struct Lane {
  slot: u32, count: u32, token: i32, place: u32, rotation: u32, listed: u32,
  bandFrom: i32, bandTo: i32, queriesFrom: i32, queriesTo: i32,
}
struct Listed { slot: u32, token: i32 }
struct Uniforms { rows: u32, first: i32, firstTile: u32, tiles: u32, places: u32, stride: u32, firstHead: u32, ${SHAPE_UNIFORMS.fields} }

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
${storageCode("keys", 1, "read", shape.storage)}${storageCode("values", 2, "read", shape.storage)}@group(0) @binding(3) var<storage, read> tiles: array<Tile>;
@group(0) @binding(4) var<storage, read> lanes: array<Lane>;
@group(0) @binding(5) var<storage, read> lists: array<Listed>;
${written}
@group(0) @binding(7) var<uniform> uniforms: Uniforms;

${softCapCode(shape)}fn slotOf(lane: Lane, j: u32) -> u32 {
  if (lane.listed == 1u) { return lists[lane.slot + j].slot; }
  return lane.slot + j;
}

fn tokenOf(lane: Lane, j: u32) -> i32 {
  if (j >= lane.count) { return NOBODY; }
  if (lane.listed == 1u) { return lists[lane.slot + j].token; }
  return lane.token + i32(j);
}
`;
}

/** Opens `main` of such a kernel: a workgroup for each of some tiles and each query `head` of the ring's buffer, z counts them. */
export function tileEntry(entry: Omit<WorkgroupEntry, "unit" | "of">): string {
  return `${workgroupEntry({ ...entry, unit: "index", of: "tiles" })}
  let tile = tiles[uniforms.firstTile + index];
  let share = uniforms.queryHeads / uniforms.keyHeads; // query heads of one key head
  let head = uniforms.firstHead * share + group.z;
  let keyHead = group.z / share; // in the buffer`;
}

/** Opens the loop over a tile's lanes in kernels whose invocations have one query each: its band, and where rows begin. */
export const LANE_OF_QUERY = `    let lane = lanes[l];
    // Tokens [seenFrom, seenTo) are in the band of this invocation's query.
    let asks = token >= lane.queriesFrom && token < lane.queriesTo;
    let seenFrom = token - lane.bandTo + 1;
    let seenTo = select(seenFrom, token - lane.bandFrom + 1, asks);
    let keyBase = (keyHead * uniforms.places + lane.place) * uniforms.stride;
    let valueBase = keyHead * uniforms.stride;
    let asked = ((lane.rotation * uniforms.rows + row) * uniforms.queryHeads + head) * QUADS;`;

/** Loads the KEYS keys, values and tokens of a lane from `base` on, by a workgroup of so many invocations. */
export function loadKeyTile(threads: string): string {
  return `      workgroupBarrier();
      // Bounds that compilers do not know keep them from unrolling what only copies.
      for (var i = local; i < KEYS * uniforms.quads; i += ${threads}) {
        let slot = slotOf(lane, min(base + i / QUADS, lane.count - 1u));
        keyTile[i] = readKeys((keyBase + slot) * QUADS + i % QUADS);
        valueTile[i] = readValues((valueBase + slot) * QUADS + i % QUADS);
      }
      if (local < KEYS) { tokens[local] = tokenOf(lane, base + local); }
      workgroupBarrier();`;
}
