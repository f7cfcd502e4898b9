import type { RingLayout } from "../../method/method.ts";
import type { Interval } from "../../method/plan.ts";
import { groupOf, quadsOf, SHAPE_UNIFORMS, type AttentionShape, type LayerRing } from "../attention/attention-shape.ts";
import { storageCode } from "../attention/storage.ts";
import { RING_SLOT, RING_UNIFORMS } from "../attention/token-slots.ts";
import { each, lines, memoised } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";

const kernelOf = memoised(choiceScoresKernel);
/** A candidate for each invocation. */
const THREADS = 64;
/** Rows that a workgroup scores at once where there are so many, for a key is loaded once for all of them; fewer of large heads. */
const MOST_ROWS = 8;
const MOST_QUADS = 512;

/**
 * What is scored: keys of single tokens in the ring, by their product with the query or by the cosine of their angle; or
 * what represents blocks, one row a key head by its product, or bounds, two rows, by the largest product that a key
 * between them can have (Tang et al. 2024, arXiv:2406.10774, algorithm 1).
 */
export type Scored = "keys" | "cosines" | "rows" | "bounds";

/**
 * Scores of candidates for each of some rows and lists: the sum over the query heads that share the list of q · k, of
 * scale · cos(q, k) with norms of at least 1e-6, or of Σ max(q · least, q · largest). A workgroup has some rows, one list
 * and 64 candidates. `choose` of the reference judges it together with `choose-rows`.
 *
 *     queries [rotations, T, H, D], keys [K, places, stride, D] or representatives [blocks, K, 1 or 2, D]
 *       → scores [rows, lists, candidates]
 */
export function choiceScoresKernel(shape: AttentionShape, scored: Scored, rowsAtOnce: number): Kernel {
  const ofRing = scored === "keys" || scored === "cosines";
  const cosine = scored === "cosines";
  const storage = ofRing ? shape.storage : "f32";
  const quads = quadsOf(shape);
  const name = ["choice-scores", scored, quads, storage, rowsAtOnce].join(" ");
  const rows = <T>(make: (r: number) => T) => each(rowsAtOnce, make);
  const product = (r: number) => {
    const query = `query[${r}u * QUADS + quad]`;
    return scored === "bounds" ? `dot(max(${query} * key, ${query} * most), vec4f(1.0))` : `dot(${query}, key)`;
  };
  const code = `// ${name}
const QUADS = ${quads}u; // of channels in a row
${cosine ? "struct Row { slot: u32, scale: f32 }\n" : ""}struct Uniforms {
  tiles: u32, candidates: u32, rows: u32, firstRow: u32, chunk: u32, rotation: u32, lists: u32, firstList: u32, amplitude: f32,
  headFrom: u32, headTo: u32, firstHead: u32, add: u32, begin: u32, places: u32, place: u32, stride: u32, scaleAt: u32,
  ${RING_UNIFORMS.fields}, ${SHAPE_UNIFORMS.fields},
}

@group(0) @binding(0) var<storage, read> queries: array<vec4f>;
${storageCode("keys", 1, "read", storage)}@group(0) @binding(2) var<storage, read_write> scores: array<f32>;
${
  cosine
    ? `@group(0) @binding(3) var<storage, read> rows: array<Row>;
@group(0) @binding(4) var<storage, read> scales: array<f32>;
`
    : ""
}@group(0) @binding(${cosine ? 5 : 3}) var<uniform> uniforms: Uniforms;

var<workgroup> query: array<vec4f, ${rowsAtOnce}u * QUADS>;
${cosine ? `var<workgroup> lengths: array<f32, ${rowsAtOnce}>;\n` : ""}
${ofRing ? RING_SLOT : ""}
/** The amplitude of the keys' table, where keys are raw: a factor of the channels that are rotated. */
fn amplitudeOf(quad: u32) -> vec4f {
  let channels = 4u * quad + vec4u(0u, 1u, 2u, 3u);
  return select(vec4f(1.0), vec4f(uniforms.amplitude), channels < vec4u(2u * uniforms.pairs));
}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) local: u32) {
  // A tile is 64 candidates and some rows.
  let tile = group.x + group.y * groups.x;
  if (tile >= uniforms.tiles) { return; }
  let across = (uniforms.candidates + ${THREADS - 1}u) / ${THREADS}u;
  let candidate = tile % across * ${THREADS}u + local;
  let firstRow = tile / across * ${rowsAtOnce}u;
  let list = uniforms.firstList + group.z;
  let share = uniforms.queryHeads / uniforms.keyHeads; // query heads of one key head
  let sharing = uniforms.queryHeads / uniforms.lists; // query heads of one list
  let own = min(candidate, uniforms.candidates - 1u); // invocations too many do what the last one does
${lines(rows((r) => `  var score${r} = 0.0;`))}
  for (var head = max(list * sharing, uniforms.headFrom); head < min((list + 1u) * sharing, uniforms.headTo); head++) {
    workgroupBarrier();
    for (var i = local; i < ${rowsAtOnce}u * QUADS; i += ${THREADS}u) {
      let row = uniforms.firstRow + min(firstRow + i / QUADS, uniforms.rows - 1u);
      let asked = ((uniforms.rotation * uniforms.chunk + row) * uniforms.queryHeads + head) * QUADS + i % QUADS;
      query[i] = queries[asked] * amplitudeOf(i % QUADS)${cosine ? " / rows[row].scale" : ""};
    }
    workgroupBarrier();
${
  cosine
    ? `    if (local < ${rowsAtOnce}u) {
      var squares = 0.0;
      for (var quad = 0u; quad < uniforms.quads; quad++) { squares += dot(query[local * QUADS + quad], query[local * QUADS + quad]); }
      lengths[local] = max(sqrt(squares), 1e-6);
    }
    workgroupBarrier();
`
    : ""
}    let at = ${
    ofRing
      ? "(((head / share - uniforms.firstHead) * uniforms.places + uniforms.place) * uniforms.stride + ringSlot(uniforms.begin + own)) * QUADS"
      : `(own * uniforms.keyHeads + head / share) * ${scored === "bounds" ? "2u * QUADS" : "QUADS"}`
  };
${lines(rows((r) => `    var product${r} = 0.0;`))}
${cosine ? "    var squares = 0.0;\n" : ""}    for (var quad = 0u; quad < uniforms.quads; quad++) {
      let key = readKeys(at + quad);
${scored === "bounds" ? "      let most = readKeys(at + QUADS + quad);\n" : ""}${cosine ? "      squares += dot(key, key);\n" : ""}${lines(rows((r) => `      product${r} += ${product(r)};`))}
    }
${cosine ? "    let factor = scales[uniforms.scaleAt + head] / max(sqrt(squares), 1e-6);\n" : ""}${lines(rows((r) => `    score${r} += product${r}${cosine ? ` * factor / lengths[${r}]` : ""};`))}
  }
  if (candidate >= uniforms.candidates) { return; }
${lines(
  rows((r) => [
    `  if (firstRow + ${r}u < uniforms.rows) {`,
    `    let goal = ((firstRow + ${r}u) * uniforms.lists + list) * uniforms.candidates + candidate;`,
    `    scores[goal] = score${r} + select(0.0, scores[goal], uniforms.add == 1u);`,
    "  }",
  ]).flat(),
)}
}
`;
  return {
    name,
    code,
    bindings: cosine ? ["read", "read", "write", "read", "read"] : ["read", "read", "write"],
    uniforms: [
      ...Array<"u32">(8).fill("u32"),
      "f32",
      ...Array<"u32">(9).fill("u32"),
      ...RING_UNIFORMS.types,
      ...SHAPE_UNIFORMS.types,
    ],
    features: [],
  };
}

/** Rows of queries that ask, and the lists that their scores are summed into. */
export interface ChoiceScores {
  /** [rotations, chunk, H, D]; rows [firstRow, firstRow + rows) of a chunk under one rotation ask. */
  readonly queries: GpuSlice;
  readonly rotation: number;
  readonly chunk: number;
  readonly firstRow: number;
  readonly rows: number;
  /** Lists of a row: 1, K or H. */
  readonly lists: number;
  readonly candidates: number;
  /** The query heads whose scores are summed, ascending; all unless given. */
  readonly askers?: readonly number[];
  readonly scored: ScoredKeys;
  /** [rows, lists, candidates] */
  readonly scores: GpuSlice;
}

/** Where candidates are: keys of consecutive tokens in a ring, or what represents blocks. */
export type ScoredKeys =
  | {
      readonly ring: LayerRing;
      readonly layout: RingLayout;
      /** Where in the ring the keys under the choice's rotation are. */
      readonly place: number;
      /** The token of candidate 0. */
      readonly begin: number;
      /** Given where scores are cosines: the factors of query heads from `at` on, and {slot, factor} of each row. */
      readonly cosine?: { readonly scales: GpuSlice; readonly at: number; readonly rows: GpuSlice };
    }
  | {
      /** [blocks, K, rows, D] */
      readonly representatives: GpuSlice;
      readonly kind: "rows" | "bounds";
      /** What channels that are rotated are multiplied by once more, as the representatives are made of raw keys. */
      readonly amplitude: number;
    };

/** One dispatch, or one for each group of heads where keys of a ring are scored, and for each run of heads that ask. */
export function choiceScores(shape: AttentionShape, capabilities: Capabilities, work: ChoiceScores): Dispatch[] {
  const { queries, rotation, chunk, firstRow, rows, lists, candidates, askers, scored, scores } = work;
  if (candidates === 0) return [];
  const rowsAtOnce = rows === 1 ? 1 : Math.max(1, Math.min(MOST_ROWS, Math.floor(MOST_QUADS / quadsOf(shape))));
  const tiles = Math.ceil(candidates / THREADS) * Math.ceil(rows / rowsAtOnce);
  const [x, y] = spread(tiles, capabilities);
  const ofRing = "ring" in scored;
  const cosine = ofRing ? scored.cosine : undefined;
  const kind = ofRing ? (cosine ? "cosines" : "keys") : scored.kind;
  const share = groupOf(shape);
  const groups = ofRing ? scored.ring.groups : [{ firstHead: 0, heads: shape.keyHeads, keys: scored.representatives }];
  /** Sums over some query heads of a buffer, into all lists that they have a part in. */
  const dispatch = ({ keys, firstHead }: (typeof groups)[number], heads: Interval, add: boolean): Dispatch => {
    const firstList = Math.floor((heads.from * lists) / shape.queryHeads);
    const ownLists = Math.max(1, Math.ceil((heads.to * lists) / shape.queryHeads) - firstList);
    return {
      kernel: kernelOf(shape, kind, rowsAtOnce),
      buffers: [queries, keys, scores, ...(cosine ? [cosine.rows, cosine.scales] : [])],
      uniforms: [
        tiles,
        candidates,
        rows,
        firstRow,
        chunk,
        rotation,
        lists,
        firstList,
        ofRing ? 1 : scored.amplitude,
        heads.from,
        heads.to,
        firstHead,
        add ? 1 : 0,
        ofRing ? scored.begin : 0,
        ofRing ? scored.ring.places : 0,
        ofRing ? scored.place : 0,
        ofRing ? scored.ring.stride : 0,
        cosine?.at ?? 0,
        ...RING_UNIFORMS.of(ofRing ? scored.layout : { capacity: 0, pinned: 0 }),
        ...SHAPE_UNIFORMS.of(shape),
      ],
      workgroups: [x, y, ownLists],
      work: rows > 1 ? rows * (heads.to - heads.from) * candidates * shape.headSize : undefined,
    };
  };
  // Of a list that several dispatches have a part in, the first part is written, and the others are added to it.
  if (!askers)
    return groups.map((group, i) => {
      const heads = { from: group.firstHead * share, to: (group.firstHead + group.heads) * share };
      return dispatch(group, heads, i > 0 && lists === 1);
    });
  if (lists > 1) throw new Error("Some heads choose for all heads, and for no others.");
  const runs = groups.flatMap((group) =>
    consecutive(
      askers.filter((head) => head >= group.firstHead * share && head < (group.firstHead + group.heads) * share),
    ).map((heads) => ({ group, heads })),
  );
  if (runs.length === 0) return [dispatch(groups[0], { from: 0, to: 0 }, false)];
  return runs.map(({ group, heads }, i) => dispatch(group, heads, i > 0));
}

/** Runs of consecutive numbers, of some that ascend. */
function consecutive(numbers: readonly number[]): Interval[] {
  const runs: { from: number; to: number }[] = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last?.to === number) last.to = number + 1;
    else runs.push({ from: number, to: number + 1 });
  }
  return runs;
}
