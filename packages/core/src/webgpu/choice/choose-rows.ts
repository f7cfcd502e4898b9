import type { Choice } from "../../method/plan.ts";
import { memoised, workgroupEntry } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { NONE } from "../sparse/run-tables.ts";
import { SELECT_THREADS, SELECT_VARIABLES, selectKey, selectSteps } from "./radix-select.ts";

const kernelOf = memoised(chooseRowsKernel);

/** Stands for a distance in place of `each.beyond` where all rows have the same candidates. */
const ALL_ALIKE = -1;

/**
 * For each of some lists the `count` blocks with the largest scores, ascending, or all candidates where a row has fewer;
 * `NONE` stands behind the last of them. A workgroup has a row and one of its lists. `bestBlocks` and `candidatesOf` judge it.
 *
 *     scores [rows, lists, candidates] → chosen [rows, lists, count]
 */
export function chooseRowsKernel(): Kernel {
  const name = "choose-rows";
  const code = `// ${name}
const NONE = ${NONE}u;
struct Uniforms {
  units: u32, lists: u32, candidates: u32, count: u32, chosenAt: u32, first: i32, beyond: i32, begin: i32, size: i32,
}

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(2) var<uniform> uniforms: Uniforms;

var<private> scoresAt: u32;
${SELECT_VARIABLES}
${selectKey("scoresAt + block")}// A unit is a row and one of its lists.
${workgroupEntry({ threads: SELECT_THREADS, unit: "unit", of: "units" })}
  scoresAt = unit * uniforms.candidates;
  let goal = uniforms.chosenAt + unit * uniforms.count;
  // Blocks whose tokens are all at a distance of at least \`beyond\` from the row's token.
  let reach = uniforms.first + i32(unit / uniforms.lists) - uniforms.beyond + 1 - uniforms.begin;
  let candidates = min(u32(max(reach, 0) / uniforms.size), uniforms.candidates);
  let blocks = select(candidates, uniforms.candidates, uniforms.beyond == ${ALL_ALIKE});
  let count = min(uniforms.count, blocks);
${selectSteps({ blocks: "blocks", count: "count", goal: "goal" })}  for (var i = count + own; i < uniforms.count; i += ${SELECT_THREADS}u) { chosen[goal + i] = NONE; }
}
`;
  return {
    name,
    code,
    bindings: ["read", "write"],
    uniforms: ["u32", "u32", "u32", "u32", "u32", "i32", "i32", "i32", "i32"],
    features: [],
  };
}

export interface ChosenRowLists {
  readonly choice: Choice;
  /** The text index of the first row. */
  readonly first: number;
  readonly rows: number;
  /** The lists of a row. */
  readonly lists: number;
  /** [rows, lists, candidates] */
  readonly scores: GpuSlice;
  /** Blocks of the first list are written from entry `chosenAt` on. */
  readonly chosen: GpuSlice;
  readonly chosenAt: number;
}

export function chooseRows(work: ChosenRowLists, capabilities: Capabilities): Dispatch {
  const { choice, first, rows, lists, scores, chosen, chosenAt } = work;
  const { each, from, size, candidates, count } = choice;
  return {
    kernel: kernelOf(),
    buffers: [scores, chosen],
    uniforms: [rows * lists, lists, candidates, count, chosenAt, first, each?.beyond ?? ALL_ALIKE, from, size],
    workgroups: spread(rows * lists, capabilities),
  };
}
