/**
 * Split attention on whatever subgroups the adapter has, as a process of its own: Mesa's lavapipe takes their size from
 * LP_NATIVE_VECTOR_WIDTH when it starts. Prints the sizes, how far the result is from the definition, and its bits.
 */
import { openGpu } from "../../../src/webgpu/index.ts";
import { attentionReduce, reduceKernel } from "../../../src/webgpu/attention/attention-reduce.ts";
import { attentionSplit, splitKernel, splitTiling } from "../../../src/webgpu/attention/attention-split.ts";
import { causal, shapeOf, tableOf } from "../attention/attention-plans.ts";
import { difference, play } from "../attention/attention-scene.ts";

const gpu = await openGpu();
const { capabilities } = gpu;
const shape = shapeOf({ queryHeads: 6, keyHeads: 2 });
const tiling = splitTiling({ shape }, capabilities);
const [split, reduce] = [splitKernel({ shape }, tiling), reduceKernel(tiling)];
const { attended, expected } = await play(gpu, {
  shape,
  plan: () => ({ segments: [causal(tableOf(3))] }),
  layout: { capacity: 100, pinned: 100 },
  chunks: [99, 1],
  path: "split",
  attend: (work) => [
    ...attentionSplit(split, shape, tiling, capabilities, work),
    attentionReduce(reduce, shape, capabilities, work),
  ],
});
gpu.destroy();
process.stdout.write(
  JSON.stringify({
    maximum: tiling.maximum,
    subgroups: capabilities.subgroups,
    difference: difference(attended, expected),
    bits: Buffer.from(attended.buffer, attended.byteOffset, attended.byteLength).toString("base64"),
  }),
);
