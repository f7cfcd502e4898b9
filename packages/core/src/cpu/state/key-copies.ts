import type { ModelConfig } from "../../model/config.ts";
import { LongctxError } from "../../common/errors.ts";
import type { AttentionPlan } from "../../method/plan.ts";
import {
  angles,
  anglesFrom,
  RAW,
  rotation,
  turnRows,
  UNROTATED,
  type Angles,
  type Rotation,
} from "../../positions/rotation.ts";
import type { SlotMap, SlotRun } from "../../state/slots.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import type { PreparedChunk } from "../graph/chunk.ts";
import type { CpuCache } from "./cpu-cache.ts";

/** Sees to it that the cache keeps keys under the rotations that a plan reads, turning old keys where a table changed. */
export class KeyCopies {
  readonly #config: ModelConfig;
  /** The angles that keys were last turned by; most layers of a chunk want the same. */
  #angles: { readonly key: string; readonly angles: Angles } | null = null;

  constructor(config: ModelConfig) {
    this.#config = config;
  }

  /**
   * Before a chunk. A restored cache knows its copies by name only; the plans that made them give them their rotations
   * back.
   */
  adopt(cache: CpuCache, plan: (layer: number) => AttentionPlan): void {
    this.#angles = null;
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
  ensure(cache: CpuCache, layer: number, chunk: PreparedChunk, first: number): void {
    this.#ensure(cache, layer, chunk, first, () => true);
  }

  /**
   * The same for a single token, whose kernels turn raw keys as they read them: a rotation that the token before it did
   * not ask for gets no copy. Tables that follow the length are another one for every token, and no copy of theirs would
   * be read twice; one that stays is copied by its second token.
   */
  ensureForToken(cache: CpuCache, layer: number, chunk: PreparedChunk, first: number): void {
    const { copies, turned } = cache.layers[layer];
    const raw = first > 0 && copies.has(RAW) && chunk.keyRotations.some(([, { id }]) => id === RAW);
    cache.layers[layer].turned = this.#ensure(cache, layer, chunk, first, ({ id }) => !raw || turned.has(id));
  }

  /** The rotations that have no copy, since `worthwhile` did not want one. */
  #ensure(
    cache: CpuCache,
    layer: number,
    chunk: PreparedChunk,
    first: number,
    worthwhile: (by: Rotation) => boolean,
  ): ReadonlySet<string> {
    const { copies } = cache.layers[layer];
    const wanted = new Set(chunk.keyRotations.map(([, by]) => by.id));
    const without = new Set<string>();
    for (const [, by] of chunk.keyRotations) {
      const kept = copies.get(by.id);
      if (kept?.rotation) continue;
      if (kept) copies.set(by.id, { ...kept, rotation: by });
      else if (worthwhile(by)) this.#make(cache, layer, by, wanted, first);
      else without.add(by.id);
    }
    for (const id of copies.keys()) if (!wanted.has(id)) cache.dropCopy(layer, id);
    return without;
  }

  #make(cache: CpuCache, layer: number, by: Rotation, wanted: ReadonlySet<string>, first: number): void {
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
    try {
      this.#turn(cache.slots, first, { buffer: source.buffer, rotation: source.rotation }, { ...copy, rotation: by });
    } catch (error) {
      cache.dropCopy(layer, by.id); // half turned
      throw error;
    }
  }

  /** Fills a copy of the keys of all held tokens before `end`, each turned by the difference of the angles. */
  #turn(slots: SlotMap, end: number, from: Copy, to: Copy): void {
    const { keyHeads, headSize } = this.#config;
    const runs = slots.runs(0, end);
    const all = this.#between(from.rotation, to.rotation, runs, end);
    to.buffer.rewrite(end);
    let row = 0;
    for (const { from: begin, to: stop } of runs) {
      const some = anglesFrom(all, row, stop - begin);
      for (let head = 0; head < keyHeads; head++)
        turnRows(from.buffer.read(head, begin, stop), to.buffer.view(head, begin, stop), headSize, some);
      row += stop - begin;
    }
  }

  #between(from: Rotation, to: Rotation, runs: readonly SlotRun[], end: number): Angles {
    const key = JSON.stringify([from.id, to.id, end]);
    if (this.#angles?.key !== key) {
      const count = runs.reduce((sum, run) => sum + run.to - run.from, 0);
      this.#angles = { key, angles: angles(to, tokensOf(runs), count, from.identity ? undefined : from) };
    }
    return this.#angles.angles;
  }
}

interface Copy {
  readonly buffer: CacheBuffer;
  readonly rotation: Rotation;
}

function* tokensOf(runs: readonly SlotRun[]): Generator<number> {
  for (const { from, to, token } of runs) for (let i = 0; i < to - from; i++) yield token + i;
}
