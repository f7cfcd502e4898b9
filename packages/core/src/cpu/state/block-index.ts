import type { Choice, Representative } from "../../method/plan.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { SlotRun } from "../../state/slots.ts";
import type { AttentionMass } from "./attention-mass.ts";
import type { CacheBuffer } from "./cache-buffer.ts";

type HeadShape = Pick<ModelConfig, "keyHeads" | "headSize">;

const FIRST_BLOCKS = 16;
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
  #rows = new Float32Array(0);
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
  }

  get bytes(): number {
    return this.#rows.byteLength;
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
    const size = keyHeads * this.width;
    if (blocks * size > this.#rows.length) {
      const grown = new Float32Array(Math.max(blocks, FIRST_BLOCKS, (2 * this.#rows.length) / size) * size);
      grown.set(this.#rows);
      this.#rows = grown;
    }
    for (; this.#blocks < blocks; this.#blocks++) {
      for (let head = 0; head < keyHeads; head++) {
        const to = this.#blocks * size + head * this.width;
        this.#represent(this.#blocks, head, rows, this.#rows.subarray(to, to + this.width));
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
      rows.set(this.#rows.subarray(at, at + width), (block - from) * width);
    }
    return rows;
  }

  /** Returns the `count` blocks of [0, candidates) with the largest scores; ties to the smaller block; ascending. */
  best({ column, values: asking }: Asking, candidates: number, count: number): number[] {
    const rows = this.#rows;
    const width = asking.length;
    const step = this.#shape.keyHeads * this.width;
    // The best so far, from the largest score to the smallest.
    const blocks: number[] = [];
    const scores: number[] = [];
    for (let block = 0, at = column; block < candidates; block++, at += step) {
      // Four sums, so that an addition need not wait for the one before.
      let a = 0;
      let b = 0;
      let c = 0;
      let d = 0;
      let i = 0;
      for (; i + 4 <= width; i += 4) {
        a += asking[i] * rows[at + i];
        b += asking[i + 1] * rows[at + i + 1];
        c += asking[i + 2] * rows[at + i + 2];
        d += asking[i + 3] * rows[at + i + 3];
      }
      for (; i < width; i++) a += asking[i] * rows[at + i];
      const score = a + b + (c + d);
      if (blocks.length === count && !(score > scores[count - 1])) continue;
      let place = Math.min(blocks.length, count - 1);
      for (; place > 0 && score > scores[place - 1]; place--) {
        blocks[place] = blocks[place - 1];
        scores[place] = scores[place - 1];
      }
      blocks[place] = block;
      scores[place] = score;
    }
    return blocks.sort((a, b) => a - b);
  }

  /** Forgets blocks that do not end within the first `length` tokens. */
  truncate(length: number): void {
    this.#blocks = Math.min(this.#blocks, Math.max(0, Math.floor((length - this.from) / this.size)));
  }

  fork(): BlockIndex {
    const copy = new BlockIndex(this, this.#shape);
    copy.#rows = this.#rows.slice();
    copy.#blocks = this.#blocks;
    return copy;
  }
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
