import type { Choice, Representative } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { SlotRun } from "../../state/slots.ts";
import { ScoredRows } from "../wasm/scored-rows.ts";
import type { AttentionMass } from "./attention-mass.ts";
import type { CacheBuffer } from "./cache-buffer.ts";

type HeadShape = Pick<ModelConfig, "keyHeads" | "headSize">;

/**
 * Scores in float32 name twice as many blocks as are taken and so many more, among which exact scores choose, so that
 * rounding decides nothing.
 */
const SPARE_BLOCKS = 16;
const MEAN: Representative = { kind: "mean" };

/** What an index is made from. */
export interface IndexedRows {
  readonly slots: {
    slotOf(token: number): number;
    runs(from: number, to: number): readonly SlotRun[];
  };
  /** Keys without rotation. */
  readonly keys: Pick<CacheBuffer, "read">;
  readonly mass: AttentionMass;
}

/** What a list of blocks is chosen by: a score is the product of `values` with columns of a block's row, from `column` on. */
export interface Asking {
  readonly column: number;
  readonly values: Float64Array;
}

/**
 * What represents the blocks of a layer, from keys without rotation, in rows [blocks, K, W]: the mean of all keys or of the
 * most attended ones (W = D), or the largest and the least value of each channel (W = 2D).
 */
export class BlockIndex {
  readonly from: number;
  readonly size: number;
  readonly representative: Representative;
  /** W, the floats of a key head in a row. */
  readonly width: number;
  readonly #shape: HeadShape;
  #rows: ScoredRows;
  /** Blocks [0, blocks) are here. */
  #blocks = 0;

  constructor(
    { from, size, representative = MEAN }: Pick<Choice, "from" | "size" | "representative">,
    shape: HeadShape,
  ) {
    this.from = from;
    this.size = size;
    this.representative = representative;
    this.width = (representative.kind === "bounds" ? 2 : 1) * shape.headSize;
    this.#shape = shape;
    this.#rows = new ScoredRows(shape.keyHeads * this.width);
  }

  get bytes(): number {
    return this.#rows.bytes;
  }

  /** Returns whether this is the index of a choice's blocks. */
  serves({ from, size, representative = MEAN }: Pick<Choice, "from" | "size" | "representative">): boolean {
    if (this.from !== from || this.size !== size) return false;
    const own = this.representative;
    if (own.kind !== "salient" || representative.kind !== "salient") return own.kind === representative.kind;
    return own.tokens === representative.tokens;
  }

  /** Adds the blocks before `blocks` that are missing, of all of whose tokens there are rows. */
  extend(blocks: number, rows: IndexedRows): void {
    const { keyHeads } = this.#shape;
    this.#rows.reserve(blocks);
    for (; this.#blocks < blocks; this.#blocks++) {
      for (let head = 0; head < keyHeads; head++) {
        const to = (this.#blocks * keyHeads + head) * this.width;
        this.#represent(this.#blocks, head, rows, this.#rows.floats.subarray(to, to + this.width));
      }
    }
  }

  /** Writes what represents a block in a key head. */
  #represent(block: number, head: number, { slots, keys, mass }: IndexedRows, to: Float32Array): void {
    const { headSize } = this.#shape;
    const first = this.from + block * this.size;
    const { representative } = this;
    if (representative.kind === "salient") {
      const masses = Array.from({ length: this.size }, (_, i) => mass.of(first + i, head));
      const order = masses.map((_, i) => i).sort((a, b) => masses[b] - masses[a] || a - b);
      const salient = order.slice(0, representative.tokens).map((i) => slots.slotOf(first + i));
      return meanOf(salient.map((slot) => keys.read(head, slot, slot + 1)), headSize, to); // prettier-ignore
    }
    const runs = slots.runs(first, first + this.size).map((run) => keys.read(head, run.from, run.to));
    if (representative.kind === "mean") return meanOf(runs, headSize, to);
    const [largest, least] = [to.subarray(0, headSize).fill(-Infinity), to.subarray(headSize).fill(Infinity)];
    for (const rows of runs)
      for (let at = 0; at < rows.length; at += headSize)
        for (let i = 0; i < headSize; i++) {
          largest[i] = Math.max(largest[i], rows[at + i]);
          least[i] = Math.min(least[i], rows[at + i]);
        }
  }

  /** Returns rows [blocks, W] of blocks [from, to) in a key head, as a copy. */
  rowsOf(head: number, from: number, to: number): Float32Array {
    const { width } = this;
    const size = this.#shape.keyHeads * width;
    const rows = new Float32Array((to - from) * width);
    for (let block = from; block < to; block++) {
      const at = block * size + head * width;
      rows.set(this.#rows.floats.subarray(at, at + width), (block - from) * width);
    }
    return rows;
  }

  /** Returns the `count` blocks of [0, candidates) with the largest scores; ties to the smaller block; ascending. */
  best(ask: Asking, candidates: number, count: number): number[] {
    const most = 2 * count + SPARE_BLOCKS;
    const whole = ask.column === 0 && ask.values.length === this.#rows.width;
    const rough = whole && candidates > most ? this.#rows.scores(ask.values, candidates) : null;
    const named = rough ? highest(rough, candidates, most).sort((a, b) => a - b) : null;
    const scores = Float64Array.from({ length: named?.length ?? candidates }, (_, i) =>
      this.#score(ask, named?.[i] ?? i),
    );
    const places = highest(scores, scores.length, count);
    return (named ? places.map((place) => named[place]) : places).sort((a, b) => a - b);
  }

  /** The score of a block, in float64. */
  #score({ column, values }: Asking, block: number): number {
    const rows = this.#rows.floats;
    const at = block * this.#rows.width + column;
    // Four sums, so that an addition need not wait for the one before.
    let a = 0;
    let b = 0;
    let c = 0;
    let d = 0;
    let i = 0;
    for (; i + 4 <= values.length; i += 4) {
      a += values[i] * rows[at + i];
      b += values[i + 1] * rows[at + i + 1];
      c += values[i + 2] * rows[at + i + 2];
      d += values[i + 3] * rows[at + i + 3];
    }
    for (; i < values.length; i++) a += values[i] * rows[at + i];
    return a + b + (c + d);
  }

  /** Forgets blocks that do not end within the first `length` tokens. */
  truncate(length: number): void {
    this.#blocks = Math.min(this.#blocks, Math.max(0, Math.floor((length - this.from) / this.size)));
  }

  fork(): BlockIndex {
    const copy = new BlockIndex(this, this.#shape);
    copy.#rows = this.#rows.copy(this.#blocks);
    copy.#blocks = this.#blocks;
    return copy;
  }

  release(): void {
    this.#rows.release();
  }
}

/** Returns the places of the `count` highest of scores [0, length), the highest first; ties to the smaller place. */
function highest(scores: ArrayLike<number>, length: number, count: number): number[] {
  const places: number[] = [];
  for (let i = 0; i < length; i++) {
    const score = scores[i];
    if (places.length === count && !(score > scores[places[count - 1]])) continue;
    let place = Math.min(places.length, count - 1);
    for (; place > 0 && score > scores[places[place - 1]]; place--) places[place] = places[place - 1];
    places[place] = i;
  }
  return places;
}

/** Writes the mean of all rows [n, D] in some arrays, summed in float64. */
function meanOf(arrays: readonly Float32Array[], headSize: number, to: Float32Array): void {
  const sums = new Float64Array(headSize);
  let count = 0;
  for (const rows of arrays) {
    for (let at = 0; at < rows.length; at += headSize) for (let i = 0; i < headSize; i++) sums[i] += rows[at + i];
    count += rows.length / headSize;
  }
  for (let i = 0; i < headSize; i++) to[i] = sums[i] / count;
}
