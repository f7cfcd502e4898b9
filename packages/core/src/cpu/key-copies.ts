import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import type { AttentionPlan } from "../plan.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { CpuCache } from "./cpu-cache.ts";
import { Graph, type EncodedGraph } from "./graph.ts";
import { angles, RAW, rotation, UNROTATED, type Rotation } from "./rotation.ts";
import { floats, integers, Program } from "./runtime.ts";

/** Sees to it that the cache keeps keys under the rotations that a plan reads, turning old keys where a table changed. */
export class KeyCopies {
  readonly #config: ModelConfig;
  readonly #threads: number;
  #program: Program | null = null;

  constructor(config: ModelConfig, threads: number) {
    this.#config = config;
    this.#threads = threads;
  }

  /** A restored cache knows its copies by name only; the plans that made them give them their rotations back. */
  adopt(cache: CpuCache, plan: (layer: number) => AttentionPlan): void {
    cache.layers.forEach(({ copies }, layer) => {
      for (const [id, copy] of copies) {
        if (copy.rotation) continue;
        const planned = () => plan(layer).segments.map(({ table, keyPosition }) => rotation(table, keyPosition));
        const by = id === RAW ? UNROTATED : planned().find((candidate) => candidate.id === id);
        if (by) copies.set(id, { ...copy, rotation: by });
      }
    });
  }

  /** Every copy that the plan reads holds the tokens before `first`; copies it does not read are dropped. */
  async ensure(cache: CpuCache, layer: number, chunk: PreparedChunk, first: number): Promise<void> {
    const { copies } = cache.layers[layer];
    const wanted = new Set(chunk.keyRotations.map(([, by]) => by.id));
    for (const [, by] of chunk.keyRotations) {
      const kept = copies.get(by.id);
      if (kept?.rotation) continue;
      if (kept) copies.set(by.id, { ...kept, rotation: by });
      else await this.#make(cache, layer, by, wanted, first);
    }
    for (const id of copies.keys()) if (!wanted.has(id)) cache.dropCopy(layer, id);
  }

  async #make(cache: CpuCache, layer: number, by: Rotation, wanted: ReadonlySet<string>, first: number): Promise<void> {
    // Keys without rotation are the exact source; any other copy is turned by the difference of the angles.
    const known = [...cache.layers[layer].copies.values()].filter((copy) => copy.rotation);
    const source = known.find((copy) => copy.rotation!.identity) ?? known[0];
    if (first > 0 && !source) {
      throw new LongctxError(
        "argument",
        "The cache keeps its keys under another method's rotation and cannot be read under this one; prefill again.",
      );
    }
    const copy = cache.addCopy(layer, by, wanted, source?.buffer);
    if (first === 0 || !source?.rotation) return;
    const from = { buffer: source.buffer, rotation: source.rotation };
    try {
      await this.#turn(cache, first, from, { buffer: copy.buffer, rotation: by });
    } catch (error) {
      cache.dropCopy(layer, by.id); // half turned
      throw error;
    }
  }

  /** Fills a copy of the keys of all held tokens before `end`, each turned by the difference of the angles. */
  async #turn(cache: CpuCache, end: number, from: Copy, to: Copy): Promise<void> {
    const { keyHeads, headSize } = this.#config;
    this.#program ??= await Program.compile(turnGraph(this.#config), this.#threads);
    from.buffer.stay();
    to.buffer.stay();
    to.buffer.rewrite(end);
    for (const run of cache.slots.runs(0, end)) {
      const count = run.to - run.from;
      const tokens = Array.from({ length: count }, (_, i) => run.token + i);
      const { cos, sin } = angles(to.rotation, tokens, count, from.rotation);
      const shared = {
        positions: integers([...tokens.keys()], 1, count),
        cos: floats(cos, count, cos.length / count),
        sin: floats(sin, count, sin.length / count),
      };
      for (let head = 0; head < keyHeads; head++) {
        const view = (copy: Copy) => floats(copy.buffer.view(head, run.from, run.to), 1, count, headSize);
        await this.#program.run({ ...shared, keys: view(from) }, { turned: view(to) });
      }
    }
  }

  async release(): Promise<void> {
    await this.#program?.release();
    this.#program = null;
  }
}

interface Copy {
  readonly buffer: CacheBuffer;
  readonly rotation: Rotation;
}

/** Keys [1, n, D] of one head, turned by given angles. */
function turnGraph({ rope, headSize }: ModelConfig): EncodedGraph {
  const graph = new Graph();
  const inputs = [
    graph.input("keys", 3),
    graph.input("positions", 2, "int64"),
    graph.input("cos", 2),
    graph.input("sin", 2),
  ];
  graph.op(
    "RotaryEmbedding",
    inputs,
    {
      ints: { num_heads: 1, rotary_embedding_dim: rope.rotarySize === headSize ? 0 : rope.rotarySize, interleaved: 0 },
    },
    "turned",
  );
  graph.output("turned");
  return graph.encode();
}
