import { LANE_OF_QUERY, loadKeyTile, tileDeclarations, tileEntry, type TileOutput } from "./attention-lanes.ts";
import { cappedScore, quadsOf, type AttentionShape } from "./attention-shape.ts";
import { each, lines } from "../device/declare.ts";
import type { QueryTiling } from "../device/tilings.ts";

/**
 * The code of `attention-tiled` where neighbouring invocations share a query, for whole ones of large heads do not fit
 * registers: invocation i has the vectors of four channels i, i + teamSize, … of it and of its sum. A key's score is the sum
 * of what each found, by way of workgroup memory; all of them add it up in the same order and go on with the same bits.
 */
export function sharedTilesCode(
  name: string,
  shape: AttentionShape,
  { rows, keys, teamSize }: Required<QueryTiling>,
  output: TileOutput,
): string {
  const quads = quadsOf(shape);
  const own = Math.ceil(quads / teamSize);
  const ragged = quads % teamSize !== 0;
  const place = (c: number) => (c === 0 ? "side" : `${c * teamSize}u + side`);
  /** Whether the invocation has a c-th four channels. */
  const has = (c: number) => (ragged && c === own - 1 ? `${place(c)} < QUADS` : null);
  const inside = (c: number) => (has(c) ? `min(${place(c)}, QUADS - 1u)` : place(c));
  const asked = (c: number) => `queries[asked + ${inside(c)}]`;
  const store = (c: number, goal: string, value: string) =>
    has(c) ? `  if (${has(c)}) { ${goal} = ${value}; }` : `  ${goal} = ${value};`;
  const kept = lines(each(own, (c) => `  var sum${c} = vec4f();`));
  return `// ${name}
${tileDeclarations(shape, output)}
const ROWS = ${rows}u; // queries of a workgroup
const LANES = ${teamSize}u; // invocations of a query
const THREADS = ${rows * teamSize}u;
const KEYS = ${keys}u; // keys and values in workgroup memory
var<workgroup> keyTile: array<vec4f, KEYS * QUADS>;
var<workgroup> valueTile: array<vec4f, KEYS * QUADS>;
var<workgroup> tokens: array<i32, KEYS>;
var<workgroup> products: array<f32, KEYS * THREADS>; // each invocation's share of the scores

/** Added up twice rather than kept: that is a few loads, and so many registers less. */
fn scoreOf(j: u32, mates: u32, seenFrom: i32, seenTo: i32) -> f32 {
  let first = j * THREADS + mates;
  let sum = ${each(teamSize, (s) => `products[first + ${s}u]`).join(" + ")};
  return select(LOWEST, ${cappedScore(shape, "sum")}, tokens[j] >= seenFrom && tokens[j] < seenTo);
}

${tileEntry({ threads: rows * teamSize, invocation: "local" })}
  let side = local % LANES;
  let mates = local - side;
  let own = local / LANES;
  let row = tile.row + min(own, tile.rows - 1u); // queries too many do what the last one does
  let token = uniforms.first + i32(row);

  var largest = LOWEST;
  var total = 0.0;
${kept}
  for (var l = tile.begin; l < tile.end; l++) {
${LANE_OF_QUERY}
${lines(each(own, (c) => `    let query${c} = ${has(c) ? `select(vec4f(), ${asked(c)}, ${has(c)})` : asked(c)};`))}
    for (var base = 0u; base < lane.count; base += KEYS) {
${loadKeyTile("THREADS")}

      let count = min(KEYS, lane.count - base);
      for (var j = 0u; j < count; j++) {
        let first = j * QUADS;
        var product = query0 * keyTile[first + ${inside(0)}];
${lines(each(own, (c) => c > 0 && `        product = fma(query${c}, keyTile[first + ${inside(c)}], product);`))}
        products[j * THREADS + local] = dot(product, vec4f(1.0));
      }
      workgroupBarrier();

      let before = largest;
      for (var j = 0u; j < count; j++) { largest = max(largest, scoreOf(j, mates, seenFrom, seenTo)); }
      let shrink = exp2(before - largest);
      total *= shrink;
${lines(each(own, (c) => `      sum${c} *= shrink;`))}
      for (var j = 0u; j < count; j++) {
        let score = scoreOf(j, mates, seenFrom, seenTo);
        let weight = select(0.0, exp2(score - largest), score > LOWEST); // some devices have no exp2 that is quite zero
        let first = j * QUADS;
        total += weight;
${lines(each(own, (c) => `        sum${c} = fma(vec4f(weight), valueTile[first + ${inside(c)}], sum${c});`))}
      }
    }
  }

  if (own >= tile.rows) { return; }
${
  output === "parts"
    ? `  let part = ((tile.part + own * tile.step) * uniforms.queryHeads + head) * (QUADS + 1u);
${lines(each(own, (c) => store(c, `parts[part + ${place(c)}]`, `sum${c}`)))}
  if (side == 0u) { parts[part + QUADS] = vec4f(largest, total, 0.0, 0.0); }`
    : `  let scale = select(1.0 / total, 0.0, total == 0.0);
  let goal = (row * uniforms.queryHeads + head) * QUADS;
${lines(each(own, (c) => store(c, `attended[goal + ${place(c)}]`, `sum${c} * scale`)))}`
}
}
`;
}
