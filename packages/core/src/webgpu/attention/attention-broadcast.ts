import type { BroadcastQueryTiling } from "../device/tilings.ts";
import { equalSubgroups, type Capabilities, type Kernel } from "../device/kernel.ts";
import { tileDeclarations, tileEntry, TILE_INTERFACE, type TileOutput } from "./attention-lanes.ts";
import { cappedScore, capName, type AttentionShape } from "./attention-shape.ts";
import type { TiledKey } from "./attention-tiled.ts";
import { each, lines } from "../device/declare.ts";

/**
 * Attention of many queries where loads are dear and a subgroup is a vector of the processor: does what
 * `attention-tiled` does, with the same tables. Every invocation has queries of its own and loads keys and values of
 * its own, and its subgroup passes them on, so nothing goes through workgroup memory. Loops go over four channels at a
 * time, so the code, and the time it takes to compile, is the same for every size of heads. `attentionOracle`
 * (tests/oracles/attention.ts) judges it.
 */

/**
 * Null where subgroups are not of one known size, or where a device has workgroup memory that is worth its name. Nor for
 * subgroups of 4: that is SwiftShader, whose compiler works at this code until the browser gives the device up.
 */
export function broadcastQueryTiling({
  software,
  subgroups,
}: Pick<Capabilities, "software" | "subgroups">): BroadcastQueryTiling | null {
  const subgroupSize = equalSubgroups({ subgroups });
  return software && subgroupSize === 8 ? { subgroupSize, queries: 2, keys: 16 / subgroupSize } : null;
}

/** Queries of a workgroup: the `tileRows` of the tables. */
export function broadcastRows({ subgroupSize, queries }: BroadcastQueryTiling): number {
  return subgroupSize * queries;
}

export function broadcastTilesKernel(
  { shape }: TiledKey,
  { subgroupSize, queries, keys }: BroadcastQueryTiling,
  output: TileOutput = "attended",
): Kernel {
  const { headSize, storage } = shape;
  const parts = output === "parts" ? ["parts"] : [];
  const name = ["attention-broadcast", headSize, storage, subgroupSize, queries, keys, ...parts, ...capName(shape)].join(" "); // prettier-ignore
  const of = <T>(make: (q: number) => T) => each(queries, make);
  /** Statements for each key of a step, as `called`, passed on by the invocation that loaded it. */
  const passedOn = (load: (k: number) => string, called: string, use: (key: number) => string[]) =>
    each(keys, (k) => [
      `        let loaded${k} = ${load(k)};`,
      ...each(subgroupSize, (invocation) => [
        "        {",
        `          let ${called} = subgroupBroadcast(loaded${k}, ${invocation}u);`,
        ...use(k * subgroupSize + invocation),
        "        }",
      ]).flat(),
    ]).flat();
  const scores = (q: number) => each(subgroupSize * keys, (key) => `score${q}_${key}`);
  const code = `enable subgroups;
// ${name}
${tileDeclarations(shape, output)}
${tileEntry({ threads: subgroupSize, builtin: "subgroup_invocation_id" })}
${lines(
  of((q) => [
    // Queries too many do what the last one does.
    `  let row${q} = tile.row + min(own + ${q * subgroupSize}u, tile.rows - 1u);`,
    `  let token${q} = uniforms.first + i32(row${q});`,
    `  var query${q}: array<vec4f, QUADS>;`,
    `  var sum${q}: array<vec4f, QUADS>;`,
    `  var largest${q} = LOWEST;`,
    `  var total${q} = 0.0;`,
  ]).flat(),
)}
  for (var l = tile.begin; l < tile.end; l++) {
    let lane = lanes[l];
    // Tokens [seenFrom, seenTo) are in the band of a query.
${lines(
  of((q) => [
    `    let asks${q} = token${q} >= lane.queriesFrom && token${q} < lane.queriesTo;`,
    `    let seenFrom${q} = token${q} - lane.bandTo + 1;`,
    `    let seenTo${q} = select(seenFrom${q}, token${q} - lane.bandFrom + 1, asks${q});`,
    `    let asked${q} = ((lane.rotation * uniforms.rows + row${q}) * uniforms.queryHeads + head) * QUADS;`,
  ]).flat(),
)}
    let keyBase = (keyHead * uniforms.places + lane.place) * uniforms.stride;
    let valueBase = keyHead * uniforms.stride;
    for (var quad = 0u; quad < uniforms.quads; quad++) {
${lines(of((q) => `      query${q}[quad] = queries[asked${q} + quad];`))}
    }
    for (var base = 0u; base < lane.count; base += ${subgroupSize * keys}u) {
${lines(
  each(keys, (k) => [
    `      let slot${k} = slotOf(lane, min(base + ${k * subgroupSize}u + own, lane.count - 1u));`,
    `      let key${k} = (keyBase + slot${k}) * QUADS;`,
    `      let value${k} = (valueBase + slot${k}) * QUADS;`,
  ]).flat(),
  of((q) => scores(q).map((score) => `      var ${score} = 0.0;`)).flat(),
)}
      for (var quad = 0u; quad < uniforms.quads; quad++) {
${lines(
  of((q) => `        let query${q}_at = query${q}[quad];`),
  passedOn(
    (k) => `readKeys(key${k} + quad)`,
    "key",
    (key) => of((q) => `          score${q}_${key} += dot(query${q}_at, key);`),
  ),
)}
      }
      {
${lines(
  passedOn(
    (k) => `tokenOf(lane, base + ${k * subgroupSize}u + own)`,
    "token",
    (key) =>
      of((q) => {
        const seen = `token >= seenFrom${q} && token < seenTo${q}`;
        return `          score${q}_${key} = select(LOWEST, ${cappedScore(shape, `score${q}_${key}`)}, ${seen});`;
      }),
  ),
)}
      }
${lines(
  of((q) => [
    `      let before${q} = largest${q};`,
    ...scores(q).map((score) => `      largest${q} = max(largest${q}, ${score});`),
    `      let shrink${q} = exp2(before${q} - largest${q});`,
    // Some devices have no exp2 that is quite zero.
    ...scores(q).map((score) => `      ${score} = select(0.0, exp2(${score} - largest${q}), ${score} > LOWEST);`),
    `      total${q} = total${q} * shrink${q} + ${scores(q).join(" + ")};`,
  ]).flat(),
)}
      for (var quad = 0u; quad < uniforms.quads; quad++) {
${lines(
  of((q) => `        var sum${q}_at = sum${q}[quad] * shrink${q};`),
  passedOn(
    (k) => `readValues(value${k} + quad)`,
    "value",
    (key) => of((q) => `          sum${q}_at += score${q}_${key} * value;`),
  ),
  of((q) => `        sum${q}[quad] = sum${q}_at;`),
)}
      }
    }
  }
${lines(of((q) => (output === "parts" ? storeParts(q, subgroupSize) : store(shape, q, subgroupSize))))}
}
`;
  return { name, code, ...TILE_INTERFACE, features: ["subgroups"] };
}

function store({ headSize }: AttentionShape, q: number, subgroupSize: number): string {
  const write =
    headSize % 4 === 0
      ? `for (var quad = 0u; quad < uniforms.quads; quad++) { attended[goal + quad] = sum${q}[quad] * scale; }`
      : `for (var i = 0u; i < uniforms.headSize; i++) { attended[goal + i] = sum${q}[i / 4u][i % 4u] * scale; }`;
  return `  if (own + ${q * subgroupSize}u < tile.rows) {
    let scale = select(1.0 / total${q}, 0.0, total${q} == 0.0);
    let goal = (row${q} * uniforms.queryHeads + head) * ${headSize % 4 === 0 ? "QUADS" : "uniforms.headSize"};
    ${write}
  }`;
}

/** What a row's keys make of it, as `attention-split` writes it. */
function storeParts(q: number, subgroupSize: number): string {
  const own = `(own + ${q * subgroupSize}u)`;
  return `  if (own + ${q * subgroupSize}u < tile.rows) {
    let part = ((tile.part + ${own} * tile.step) * uniforms.queryHeads + head) * (QUADS + 1u);
    for (var quad = 0u; quad < uniforms.quads; quad++) { parts[part + quad] = sum${q}[quad]; }
    parts[part + QUADS] = vec4f(largest${q}, total${q}, 0.0, 0.0);
  }`;
}
