import type { Backend } from "../../backend/backend.ts";
import type { NearTokens } from "../../method/method.ts";
import type { AttentionPlan, Interval } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import { angles, RAW, rotation, turnRows, type Angles, type Rotation } from "../../positions/rotation.ts";
import type { SlotMap, SlotRun, TokenSlots } from "../../state/slots.ts";
import { BlockCache } from "./block-cache.ts";
import { placesFor } from "./buffer-layout.ts";
import type { CacheBuffer } from "./cache-buffer.ts";
import { blockOf, ColdSlots, coldSegments, type ColdSegment } from "./cold-tokens.ts";
import { FarRows } from "../far/far-rows.ts";
import type { Places } from "./placed-blocks.ts";
import type { RowPlace } from "../far/row-places.ts";

type HeadShape = Pick<ModelConfig, "keyHeads" | "headSize">;

/** The buffers of a layer of a sequence. */
export interface LayerBuffers {
  readonly slots: SlotMap;
  readonly values: CacheBuffer;
  readonly copies: ReadonlyMap<string, { readonly rotation: Rotation | null; readonly buffer: CacheBuffer }>;
}

/** Where the lanes of a chunk find tokens; `load` puts old tokens there, when all copies of the keys exist. */
export interface ColdRead {
  readonly slots: TokenSlots;
  load(): void;
}

/** Angles that turned a block, with the rotation's id and the positions of the block's tokens. */
interface BlockTurn {
  readonly id: string;
  readonly positions: readonly number[];
  readonly angles: Angles;
}

/**
 * A layer of which the buffers hold near tokens and some blocks of old ones only: the keys without rotation and the values
 * of all tokens in a store beside them, and the cache of blocks that come back.
 */
export class ColdLayer {
  readonly near: NearTokens;
  readonly keys: FarRows;
  readonly values: FarRows;
  readonly cache: BlockCache;
  readonly #shape: HeadShape;
  #turn: BlockTurn | null = null;
  #lastKeys: (Interval & { readonly heads: readonly Float32Array[] }) | null = null;
  #scratch = new Float32Array(0);

  constructor(near: NearTokens, shape: HeadShape, keys: FarRows, values: FarRows, cache: BlockCache) {
    this.near = near;
    this.keys = keys;
    this.values = values;
    this.cache = cache;
    this.#shape = shape;
  }

  /** An empty layer, its rows in memory unless another place is given; `fast` keeps them in 16 bits. */
  static empty(
    near: NearTokens,
    { config: { keyHeads, headSize }, precision }: Pick<Backend, "config" | "precision">,
    place?: RowPlace,
  ): ColdLayer {
    const stored = precision === "fast" ? "float16" : "float32";
    const rows = () => new FarRows({ heads: keyHeads, headSize, precision: stored, place });
    return new ColdLayer(near, { keyHeads, headSize }, rows(), rows(), new BlockCache(placesFor(near)));
  }

  /** Returns where the buffers, whose ring has `slots` slots, have blocks of old tokens. */
  placesBehind(slots: number): Places {
    return { slot: slots, count: this.cache.places, block: this.near.block };
  }

  get bytes(): number {
    return [this.keys, this.values].reduce((sum, { bytes: { memory, disk } }) => sum + memory + disk, 0);
  }

  /** The keys without rotation, as a block index reads them: a token's slot is its index in the text. */
  readonly keyRows = {
    slots: {
      slotOf: (token: number): number => token,
      runs: (from: number, to: number): readonly SlotRun[] => [{ from, to, token: from }],
    },
    keys: { read: (head: number, from: number, to: number): Float32Array => this.#keysOf(from, to)[head] },
  };

  /** Writes the rows of all tokens that the ring holds anew, from the store. */
  refill(slots: SlotMap, keys: CacheBuffer, values: CacheBuffer): void {
    const heads = (buffer: CacheBuffer, { from, to }: SlotRun) =>
      Array.from({ length: this.#shape.keyHeads }, (_, head) => buffer.view(head, from, to));
    for (const [buffer, rows] of [
      [keys, this.keys],
      [values, this.values],
    ] as const) {
      buffer.rewrite(slots.length);
      for (const run of slots.runs(0, slots.length)) rows.readHeads(run.token, run.to - run.from, heads(buffer, run));
    }
  }

  /** Appends all rows of another store. */
  take({ keys, values }: ColdLayer): void {
    for (const [to, from] of [
      [this.keys, keys],
      [this.values, values],
    ])
      while (to.length < from.length) to.append(from.view(to.length, from.length - to.length));
  }

  /** Forgets all but the first `length` tokens, as do the layer's buffers that hold blocks of later tokens. */
  truncate(length: number, buffers: readonly CacheBuffer[]): void {
    const first = blockOf(length, this.near);
    this.keys.truncate(length);
    this.values.truncate(length);
    this.cache.forget(first);
    this.#lastKeys = null;
    for (const { placed } of buffers) placed?.forget(first);
  }

  /** A layer that shares the rows so far; its buffers fetch the blocks of their places when these are read. */
  fork(near: NearTokens): ColdLayer {
    const alike = near.first === this.near.first && near.block === this.near.block && near.blocks === this.near.blocks;
    const cache = alike ? this.cache.fork() : new BlockCache(placesFor(near));
    return new ColdLayer(near, this.#shape, this.keys.fork(), this.values.fork(), cache);
  }

  release(): void {
    this.keys.dispose();
    this.values.dispose();
  }

  /** Appends the rows of the chunk [first, first + count), whose keys without rotation and values the ring holds. */
  append({ slots, values, copies }: LayerBuffers, first: number, count: number): void {
    const runs = slots.runs(first, first + count);
    this.keys.append(this.#rowsOf(copies.get(RAW)!.buffer, runs, count));
    this.values.append(this.#rowsOf(values, runs, count));
  }

  /**
   * Gives places to the blocks of old tokens that queries of the chunk may see; null where they see near tokens alone.
   * `grow` makes room for so many places where the buffers have fewer.
   */
  read(
    plan: AttentionPlan,
    buffers: LayerBuffers,
    { first, count }: { readonly first: number; readonly count: number },
    grow: (places: number) => void,
  ): ColdRead | null {
    const segments = coldSegments(plan, buffers.slots, this.near, first, count);
    if (segments.length === 0) return null;
    const blocks = new Set(segments.flatMap((one) => one.blocks));
    if (blocks.size > this.cache.places) grow(2 * blocks.size);
    this.cache.take(blocks);
    const slots = new ColdSlots(buffers.slots, this.near, (block) => this.cache.placeOf(block));
    return { slots, load: () => this.#load(segments, buffers) };
  }

  /** Returns whether a plan shows old tokens that the buffers may not hold to queries [first, first + count). */
  sees(plan: AttentionPlan, slots: SlotMap, first: number, count: number): boolean {
    return coldSegments(plan, slots, this.near, first, count).length > 0;
  }

  #load(segments: readonly ColdSegment[], { values, copies }: LayerBuffers): void {
    for (const { segment, blocks } of segments) {
      const by = rotation(segment.table, segment.keyPosition);
      const copy = copies.get(by.id);
      const keys = copy?.buffer ?? copies.get(RAW)!.buffer; // without a copy kernels turn raw keys as they read them
      for (const block of blocks) {
        this.#fill(keys, block, this.keys, copy && !by.identity ? by : null);
        this.#fill(values, block, this.values, null);
      }
    }
  }

  /** Puts a block into its place in a buffer, unless the place holds it. */
  #fill(buffer: CacheBuffer, block: number, from: FarRows, by: Rotation | null): void {
    const place = this.cache.placeOf(block)!;
    if (buffer.placed!.holds(place, block)) return;
    const first = this.near.first + block * this.near.block;
    const turn = by && this.#turnOf(by, first);
    buffer.fill(place, block, (heads) => {
      from.readHeads(first, this.near.block, heads);
      if (turn) for (const rows of heads) turnRows(rows, rows, this.#shape.headSize, turn);
    });
  }

  /** The keys of tokens [from, to) of each head; the heads are asked for one after another, so the last ones are kept. */
  #keysOf(from: number, to: number): readonly Float32Array[] {
    const { keyHeads, headSize } = this.#shape;
    if (this.#lastKeys?.from !== from || this.#lastKeys.to !== to) {
      const heads = Array.from({ length: keyHeads }, () => new Float32Array((to - from) * headSize));
      this.keys.readHeads(from, to - from, heads);
      this.#lastKeys = { from, to, heads };
    }
    return this.#lastKeys.heads;
  }

  /** The rows of some slots of a buffer, [n, K, D]; valid until the next call. */
  #rowsOf(buffer: CacheBuffer, runs: readonly SlotRun[], count: number): Float32Array {
    const { keyHeads, headSize } = this.#shape;
    const width = keyHeads * headSize;
    if (this.#scratch.length < count * width) this.#scratch = new Float32Array(count * width);
    const to = this.#scratch;
    let begin = 0;
    for (const run of runs) {
      for (let head = 0; head < keyHeads; head++) {
        const rows = buffer.read(head, run.from, run.to);
        for (let at = 0, row = begin + head * headSize; at < rows.length; at += headSize, row += width)
          for (let i = 0; i < headSize; i++) to[row + i] = rows[at + i];
      }
      begin += (run.to - run.from) * width;
    }
    return to.subarray(0, begin);
  }

  /** The angles that turn the keys of the block beginning with token `first`, made anew where the positions differ. */
  #turnOf(by: Rotation, first: number): Angles {
    const positions = Array.from({ length: this.near.block }, (_, i) => by.rule.at(first + i));
    const known = this.#turn;
    if (known?.id === by.id && positions.every((position, i) => position === known.positions[i])) return known.angles;
    const tokens = positions.map((_, i) => first + i);
    const made = angles(by, tokens, tokens.length);
    this.#turn = { id: by.id, positions, angles: made };
    return made;
  }
}
