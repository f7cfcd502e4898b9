import { storageCode, type Storage } from "../attention/storage.ts";
import { RING_SLOT } from "../attention/token-slots.ts";
import type { Kernel } from "../device/kernel.ts";
import { BLOCK_UNIFORMS } from "./block-means.ts";

const THREADS = 64;

/**
 * Bounds of blocks of tokens: an invocation finds the least and the largest of four channels of one key head over a block's
 * tokens. `choose` of the reference judges it.
 *
 *     keys [K, places, stride, D], the copy without rotation → bounds [blocks, K, 2, D]
 */
export function blockBoundsKernel(storage: Storage): Kernel {
  const name = ["block-bounds", storage].join(" ");
  const code = `// ${name}
struct Uniforms {
  ${BLOCK_UNIFORMS.fields},
}

${storageCode("keys", 0, "read", storage)}@group(0) @binding(1) var<storage, read_write> bounds: array<vec4f>;
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
  var least = readKeys((base + ringSlot(token)) * uniforms.quads + quad);
  var most = least;
  for (var i = 1u; i < uniforms.size; i++) {
    let key = readKeys((base + ringSlot(token + i)) * uniforms.quads + quad);
    least = min(least, key);
    most = max(most, key);
  }
  let goal = 2u * (block * uniforms.keyHeads + uniforms.firstHead + head) * uniforms.quads + quad;
  bounds[goal] = least;
  bounds[goal + uniforms.quads] = most;
}
`;
  return { name, code, bindings: ["read", "write"], uniforms: BLOCK_UNIFORMS.types, features: [] };
}
