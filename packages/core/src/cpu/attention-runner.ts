import type { ModelConfig } from "../config.ts";
import { LongctxError } from "../errors.ts";
import { attentionGraph, port } from "./attention-graph.ts";
import type { PreparedChunk } from "./chunk.ts";
import type { CpuCache } from "./cpu-cache.ts";
import { rerotate, rotationGraph } from "./rerotate.ts";
import { rotation, type Rotation } from "./rotation.ts";
import { floats, Program, type Feeds } from "./runtime.ts";

/** Attention graphs differ by the shape of a plan, not by lengths, so a run needs few of them. */
const KEPT_PROGRAMS = 64;

/** Runs attention of one layer: binds the cache's buffers to the graph made for the plan's shape. */
export class AttentionRunner {
  readonly #config: ModelConfig;
  readonly #threads: number;
  readonly #programs = new Map<string, Program>();
  #rotate: Program | null = null;

  constructor(config: ModelConfig, threads: number) {
    this.#config = config;
    this.#threads = threads;
  }

  /** Writes the chunk's keys and values into the cache and [T, H, D] into `attended`. */
  async run(cache: CpuCache, layer: number, chunk: PreparedChunk, count: number, first: number, projected: Float32Array, attended: Float32Array): Promise<void> {
    const { queryHeads, keyHeads, headSize } = this.#config;
    await this.#ensureCopies(cache, layer, chunk, first);
    const { copies, values } = cache.layers[layer]!;
    const slot = cache.slots.slotOf(first);
    const feeds: Feeds = { ...chunk.feeds, projected: floats(projected, 1, count, (queryHeads + 2 * keyHeads) * headSize) };
    const outputs: Feeds = {};
    for (let head = 0; head < keyHeads; head++) {
      outputs[port.valueOut(head)] = floats(cache.view(values, head, slot, slot + count), 1, count, headSize);
      for (const [i, by] of chunk.keyRotations) outputs[port.keyOut(i, head)] = floats(cache.view(copies.get(by.id)!.data, head, slot, slot + count), count, 1, headSize);
      chunk.tiles.forEach((tile, t) => {
        const stored = (data: Float32Array, slots: { from: number; to: number } | Int32Array) =>
          slots instanceof Int32Array ? gathered(cache, data, head, slots, headSize) : floats(cache.view(data, head, slots.from, slots.to), slots.to - slots.from, headSize);
        tile.lanes.forEach((lane, l) => {
          const { table, keyPosition } = lane.segment;
          feeds[port.keys(t, l, head)] = stored(copies.get(rotation(table, keyPosition).id)!.data, lane.slots);
        });
        tile.stretches.forEach((stretch, s) => (feeds[port.values(t, s, head)] = stored(values, stretch.slots)));
      });
    }
    if (chunk.tiles.length > 0) outputs.attended = floats(attended, count, queryHeads, headSize);
    const program = await this.#program(chunk);
    await program.run(feeds, outputs);
  }

  async #program(chunk: PreparedChunk): Promise<Program> {
    const known = this.#programs.get(chunk.key);
    if (known) {
      this.#programs.delete(chunk.key); // to the end: the map is ordered by last use
      this.#programs.set(chunk.key, known);
      return known;
    }
    const program = await Program.compile(attentionGraph(this.#config, chunk.shape), this.#threads);
    this.#programs.set(chunk.key, program);
    const [oldest] = this.#programs.keys();
    if (this.#programs.size > KEPT_PROGRAMS && oldest !== undefined) {
      await this.#programs.get(oldest)!.release();
      this.#programs.delete(oldest);
    }
    return program;
  }

  /** Every copy of the keys that the plan reads holds the tokens before this chunk. */
  async #ensureCopies(cache: CpuCache, layer: number, chunk: PreparedChunk, first: number): Promise<void> {
    const { copies } = cache.layers[layer]!;
    const wanted = new Set(chunk.keyRotations.map(([, by]) => by.id));
    for (const [, by] of chunk.keyRotations) {
      const kept = copies.get(by.id);
      if (kept?.rotation) continue;
      if (kept) copies.set(by.id, { ...kept, rotation: by });
      else await this.#makeCopy(cache, layer, by, wanted, first);
    }
    for (const id of copies.keys()) if (!wanted.has(id)) copies.delete(id);
  }

  async #makeCopy(cache: CpuCache, layer: number, by: Rotation, wanted: ReadonlySet<string>, first: number): Promise<void> {
    const { copies } = cache.layers[layer]!;
    // Keys without rotation are the exact source; any other copy is turned by the difference of the angles.
    const source = [...copies.values()].sort((a, b) => Number(b.rotation?.identity ?? false) - Number(a.rotation?.identity ?? false)).find((copy) => copy.rotation);
    if (first > 0 && !source) throw new LongctxError("argument", "The cache keeps its keys under another method's rotation and cannot be read under this one; prefill again.");
    const from = source?.rotation ?? null;
    const data = source?.data;
    const copy = cache.addCopy(layer, by, wanted, data);
    if (first === 0 || !data || !from) return;
    this.#rotate ??= await Program.compile(rotationGraph(this.#config), this.#threads);
    await rerotate(this.#rotate, this.#config, cache, first, { data, rotation: from }, { data: copy.data, rotation: by });
  }

  async release(): Promise<void> {
    const programs = [...this.#programs.values(), ...(this.#rotate ? [this.#rotate] : [])];
    this.#programs.clear();
    await Promise.all(programs.map((program) => program.release()));
  }
}

/** Rows of listed slots, side by side. */
function gathered(cache: CpuCache, data: Float32Array, head: number, slots: Int32Array, headSize: number) {
  const rows = new Float32Array(slots.length * headSize);
  slots.forEach((slot, i) => rows.set(cache.view(data, head, slot, slot + 1), i * headSize));
  return floats(rows, slots.length, headSize);
}
