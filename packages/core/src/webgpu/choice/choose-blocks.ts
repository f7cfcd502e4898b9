import { SELECT_THREADS, SELECT_VARIABLES, selectKey, selectSteps } from "./radix-select.ts";
import { RING_SLOT, RING_UNIFORMS } from "../attention/token-slots.ts";
import type { Choice } from "../../method/plan.ts";
import type { RingLayout } from "../../method/method.ts";
import { declareKernel, memoised } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";

const scoresKernelOf = memoised(blockScoresKernel);
const chooseKernelOf = memoised(chooseBlocksKernel);
const SCORE_THREADS = 64;

/**
 * Scores of blocks: an invocation for each takes the dot product of its mean keys and what the choice asks with.
 *
 *     asking [K, D], means [blocks, K, D] → scores [blocks]
 */
export function blockScoresKernel(): Kernel {
  return declareKernel({
    name: "block-scores",
    storage: [
      ["asking", "vec4f", "read"],
      ["means", "vec4f", "read"],
      ["scores", "f32", "write"],
    ],
    // `width` is K · D in vectors of four.
    uniforms: { blocks: "u32", width: "u32" },
    body: `
@compute @workgroup_size(${SCORE_THREADS})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) own: u32,
) {
  let block = (group.x + group.y * groups.x) * ${SCORE_THREADS}u + own;
  if (block >= uniforms.blocks) { return; }
  var score = 0.0;
  for (var i = 0u; i < uniforms.width; i++) { score += dot(asking[i], means[block * uniforms.width + i]); }
  scores[block] = score;
}`,
  });
}

/**
 * The `count` blocks with the largest scores, of equal ones those with the smaller index, in ascending order, and the
 * slots and tokens they hold as attention reads lists. One workgroup serves any number of blocks: a radix select over the
 * bits of the scores, eight at a time, finds the smallest score that is taken, and a prefix sum over ranges of blocks
 * places those that are. `bestBlocks` judges it.
 *
 *     scores [blocks] → chosen [count], lists: { slot, token } of count · size tokens
 */
export function chooseBlocksKernel(): Kernel {
  const name = "choose-blocks";
  const code = `// ${name}
struct Uniforms {
  blocks: u32, count: u32, size: u32, begin: u32, chosenAt: u32, listAt: u32, ${RING_UNIFORMS.fields},
}
struct Listed { slot: u32, token: i32 }

@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(2) var<storage, read_write> lists: array<Listed>;
@group(0) @binding(3) var<uniform> uniforms: Uniforms;

${SELECT_VARIABLES}
${RING_SLOT}
${selectKey("block")}@compute @workgroup_size(${SELECT_THREADS})
fn main(@builtin(local_invocation_index) own: u32) {
${selectSteps({ blocks: "uniforms.blocks", count: "uniforms.count", goal: "uniforms.chosenAt" })}  storageBarrier();
  for (var i = own; i < uniforms.count * uniforms.size; i += ${SELECT_THREADS}u) {
    let token = uniforms.begin + chosen[uniforms.chosenAt + i / uniforms.size] * uniforms.size + i % uniforms.size;
    lists[uniforms.listAt + i] = Listed(ringSlot(token), i32(token));
  }
}
`;
  return {
    name,
    code,
    bindings: ["read", "write", "write"],
    uniforms: ["u32", "u32", "u32", "u32", "u32", "u32", ...RING_UNIFORMS.types],
    features: [],
  };
}

export interface BlockScores {
  readonly blocks: number;
  /** K · D in vectors of four channels. */
  readonly width: number;
  readonly asking: GpuSlice;
  readonly means: GpuSlice;
  readonly scores: GpuSlice;
}

export function blockScores(
  { blocks, width, asking, means, scores }: BlockScores,
  capabilities: Capabilities,
): Dispatch {
  return {
    kernel: scoresKernelOf(),
    buffers: [asking, means, scores],
    uniforms: [blocks, width],
    workgroups: spread(Math.ceil(blocks / SCORE_THREADS), capabilities),
  };
}

export interface ChosenBlocks {
  readonly choice: Choice;
  readonly layout: RingLayout;
  readonly scores: GpuSlice;
  /** Indices of blocks, written from word `chosenAt` on. */
  readonly chosen: GpuSlice;
  readonly chosenAt: number;
  /** Entries { slot, token }, written from entry `listAt` on. */
  readonly lists: GpuSlice;
  readonly listAt: number;
}

export function chooseBlocks({ choice, layout, scores, chosen, chosenAt, lists, listAt }: ChosenBlocks): Dispatch {
  const { candidates, count, size, from } = choice;
  return {
    kernel: chooseKernelOf(),
    buffers: [scores, chosen, lists],
    uniforms: [candidates, count, size, from, chosenAt, listAt, ...RING_UNIFORMS.of(layout)],
    workgroups: [1, 1, 1],
  };
}
