import type { RingLayout } from "../../method/method.ts";
import { quadsOf, SHAPE_UNIFORMS, type AttentionShape, type LayerRing } from "../attention/attention-shape.ts";
import { RING_UNIFORMS } from "../attention/token-slots.ts";
import { memoised } from "../device/declare.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice } from "../device/kernel.ts";
import type { BlockIndex } from "../state/layer-buffers.ts";
import { blockBoundsKernel } from "./block-bounds.ts";
import { blockMeansKernel } from "./block-means.ts";
import { salientMeansKernel } from "./salient-means.ts";

const meansKernelOf = memoised(blockMeansKernel);
const boundsKernelOf = memoised(blockBoundsKernel);
const salientKernelOf = memoised(salientMeansKernel);
/** Invocations of a workgroup, of which each has four channels of a block and a key head. */
const THREADS = 64;

/** Blocks whose representatives are made of a layer's raw keys. */
export interface IndexedBlocks {
  readonly ring: LayerRing;
  readonly layout: RingLayout;
  /** Where in the ring the keys without rotation are. */
  readonly rawPlace: number;
  readonly index: BlockIndex;
  /** The blocks [first, end) that are added to the index. */
  readonly blocks: { readonly first: number; readonly end: number };
  /** The attention mass of tokens, [tokens, K], where the most attended keys represent blocks. */
  readonly mass: GpuSlice | null;
}

/** One dispatch for each group of heads. */
export function indexBlocks(shape: AttentionShape, capabilities: Capabilities, work: IndexedBlocks): Dispatch[] {
  const { ring, layout, rawPlace, index, mass } = work;
  const { from, size, by, representatives } = index;
  const { first, end } = work.blocks;
  return ring.groups.map(({ firstHead, heads, keys }): Dispatch => {
    const uniforms = [
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
    ];
    if (by.kind === "salient") {
      const units = (end - first) * heads;
      return {
        kernel: salientKernelOf(shape),
        buffers: [keys, mass!, representatives],
        uniforms: [units, Math.min(by.tokens, size), ...uniforms],
        workgroups: spread(units, capabilities),
      };
    }
    return {
      kernel: (by.kind === "mean" ? meansKernelOf : boundsKernelOf)(shape.storage),
      buffers: [keys, representatives],
      uniforms,
      workgroups: spread(Math.ceil(((end - first) * heads * quadsOf(shape)) / THREADS), capabilities),
    };
  });
}
