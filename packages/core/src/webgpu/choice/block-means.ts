import { SHAPE_UNIFORMS, type AttentionShape, type LayerRing } from "../attention/attention-shape.ts";
import { storageCode, type Storage } from "../attention/storage.ts";
import { RING_SLOT, RING_UNIFORMS } from "../attention/token-slots.ts";
import type { RingLayout } from "../../method/method.ts";
import { memoised } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";

const kernelOf = memoised(blockMeansKernel);
const THREADS = 64;

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
  blocks: u32, firstBlock: u32, size: u32, begin: u32, places: u32, place: u32, stride: u32, firstHead: u32, heads: u32,
  ${RING_UNIFORMS.fields}, ${SHAPE_UNIFORMS.fields},
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
    uniforms: [...Array<"u32">(9).fill("u32"), ...RING_UNIFORMS.types, ...SHAPE_UNIFORMS.types],
    features: [],
  };
}

export interface BlockMeans {
  readonly ring: LayerRing;
  readonly layout: RingLayout;
  /** Where in the ring the keys without rotation are. */
  readonly rawPlace: number;
  /** Block j holds the tokens [from + j · size, from + (j + 1) · size). */
  readonly from: number;
  readonly size: number;
  /** The blocks [first, end) whose means are computed. */
  readonly blocks: { readonly first: number; readonly end: number };
  /** [blocks, K, D] */
  readonly means: GpuSlice;
}

/** One dispatch for each group of heads. */
export function blockMeans(shape: AttentionShape, capabilities: Capabilities, work: BlockMeans): Dispatch[] {
  const { ring, layout, rawPlace, from, size, means } = work;
  const { first, end } = work.blocks;
  const [, , , quads] = SHAPE_UNIFORMS.of(shape);
  return ring.groups.map(({ firstHead, heads, keys }) => ({
    kernel: kernelOf(shape.storage),
    buffers: [keys, means],
    uniforms: [
      end - first,
      first,
      size,
      from,
      ring.places,
      rawPlace,
      ring.stride,
      firstHead,
      heads,
      ...RING_UNIFORMS.of(layout),
      ...SHAPE_UNIFORMS.of(shape),
    ],
    workgroups: spread(Math.ceil(((end - first) * heads * quads) / THREADS), capabilities),
  }));
}
