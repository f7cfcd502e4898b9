import { SHAPE_UNIFORMS } from "../attention/attention-shape.ts";
import { storageCode, type Storage } from "../attention/storage.ts";
import { RING_SLOT, RING_UNIFORMS } from "../attention/token-slots.ts";
import type { Kernel } from "../device/kernel.ts";

const THREADS = 64;

/** Uniforms of kernels that go over the raw keys of blocks [firstBlock, firstBlock + blocks) in a ring. */
export const BLOCK_UNIFORMS = {
  fields: `blocks: u32, firstBlock: u32, size: u32, begin: u32, places: u32, place: u32, stride: u32, firstHead: u32, heads: u32,
  ${RING_UNIFORMS.fields}, ${SHAPE_UNIFORMS.fields}`,
  types: [...Array<"u32">(9).fill("u32"), ...RING_UNIFORMS.types, ...SHAPE_UNIFORMS.types],
} as const;

/**
 * Mean keys of blocks of tokens: an invocation adds up four channels of one key head over a block's tokens, in order of the
 * text, so that a mean does not depend on the chunk in which it is computed. `chooseBlocks` of the reference judges it.
 *
 *     keys [K, places, stride, D], the copy without rotation → means [blocks, K, D]
 */
export function blockMeansKernel(storage: Storage): Kernel {
  const name = ["block-means", storage].join(" ");
  const code = `// ${name}
struct Uniforms {
  ${BLOCK_UNIFORMS.fields},
}

${storageCode("keys", 0, "read", storage)}@group(0) @binding(1) var<storage, read_write> means: array<vec4f>;
@group(0) @binding(2) var<uniform> uniforms: Uniforms;

${RING_SLOT}
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let thread = (group.x + group.y * groups.x) * ${THREADS}u + local;
  let quad = thread % uniforms.quads;
  let head = thread / uniforms.quads % uniforms.heads; // in the buffer
  let block = uniforms.firstBlock + thread / uniforms.quads / uniforms.heads;
  if (block >= uniforms.firstBlock + uniforms.blocks) { return; }
  let token = uniforms.begin + block * uniforms.size;
  let base = (head * uniforms.places + uniforms.place) * uniforms.stride;
  var sum = vec4f();
  for (var i = 0u; i < uniforms.size; i++) { sum += readKeys((base + ringSlot(token + i)) * uniforms.quads + quad); }
  means[(block * uniforms.keyHeads + uniforms.firstHead + head) * uniforms.quads + quad] = sum / f32(uniforms.size);
}
`;
  return {
    name,
    code,
    bindings: ["read", "write"],
    uniforms: BLOCK_UNIFORMS.types,
    features: [],
  };
}
