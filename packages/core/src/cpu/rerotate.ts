import type { ModelConfig } from "../config.ts";
import type { CpuCache } from "./cpu-cache.ts";
import { Graph } from "./graph.ts";
import { angles, type Rotation } from "./rotation.ts";
import { floats, integers, type Program } from "./runtime.ts";

/** Keys [1, n, D] of one head, turned by given angles. */
export function rotationGraph({ rope, headSize }: ModelConfig): Uint8Array {
  const graph = new Graph();
  const inputs = [graph.input("keys", 3), graph.input("positions", 2, "int64"), graph.input("cos", 2), graph.input("sin", 2)];
  graph.op("RotaryEmbedding", inputs, { ints: { num_heads: 1, rotary_embedding_dim: rope.rotarySize === headSize ? 0 : rope.rotarySize, interleaved: 0 } }, "rotated");
  graph.output("rotated");
  return graph.encode();
}

interface Copy {
  readonly data: Float32Array;
  readonly rotation: Rotation;
}

/** Fills a copy of the keys of all held tokens before `end` from another, turning each by the difference of the angles. */
export async function rerotate(program: Program, { keyHeads, headSize }: ModelConfig, cache: CpuCache, end: number, from: Copy, to: Copy): Promise<void> {
  for (const run of cache.slots.runs(0, end)) {
    const count = run.to - run.from;
    const tokens = Array.from({ length: count }, (_, i) => run.token + i);
    const { cos, sin } = angles(to.rotation, tokens, count, from.rotation);
    const shared = { positions: integers([...tokens.keys()], 1, count), cos: floats(cos, count, cos.length / count), sin: floats(sin, count, sin.length / count) };
    for (let head = 0; head < keyHeads; head++) {
      const view = (copy: Copy) => floats(cache.view(copy.data, head, run.from, run.to), 1, count, headSize);
      await program.run({ ...shared, keys: view(from) }, { rotated: view(to) });
    }
  }
}
