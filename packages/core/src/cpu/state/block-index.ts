import type { ModelConfig } from "../../model/config.ts";
import type { SlotRun } from "../../state/slots.ts";
import type { CacheBuffer } from "./cache-buffer.ts";

type HeadShape = Pick<ModelConfig, "keyHeads" | "headSize">;

/** Says in which slots consecutive tokens are. */
interface KeySlots {
  runs(from: number, to: number): readonly SlotRun[];
}

const FIRST_BLOCKS = 16;

/** The mean keys, without rotation, of a layer's blocks of `size` tokens from token `from` on, [blocks, K, D]. */
export class BlockIndex {
  readonly from: number;
  readonly size: number;
  readonly #shape: HeadShape;
  #means = new Float32Array(0);
  /** Blocks [0, blocks) are here. */
  #blocks = 0;

  constructor(from: number, size: number, shape: HeadShape) {
    this.from = from;
    this.size = size;
    this.#shape = shape;
  }

  get bytes(): number {
    return this.#means.byteLength;
  }

  /** Adds the blocks before `blocks` that are missing; `keys` has all of their tokens in the slots that `slots` names. */
  extend(blocks: number, slots: KeySlots, keys: Pick<CacheBuffer, "read">): void {
    const { keyHeads, headSize } = this.#shape;
    const width = keyHeads * headSize;
    if (blocks * width > this.#means.length) {
      const grown = new Float32Array(Math.max(blocks, FIRST_BLOCKS, (2 * this.#means.length) / width) * width);
      grown.set(this.#means);
      this.#means = grown;
    }
    const sums = new Float64Array(headSize);
    for (; this.#blocks < blocks; this.#blocks++) {
      const first = this.from + this.#blocks * this.size;
      const runs = slots.runs(first, first + this.size);
      for (let head = 0; head < keyHeads; head++) {
        sums.fill(0);
        for (const run of runs) {
          const rows = keys.read(head, run.from, run.to);
          for (let at = 0; at < rows.length; at += headSize) for (let i = 0; i < headSize; i++) sums[i] += rows[at + i];
        }
        const to = this.#blocks * width + head * headSize;
        for (let i = 0; i < headSize; i++) this.#means[to + i] = sums[i] / this.size;
      }
    }
  }

  /** The `count` blocks of [0, candidates) with the largest asking · mean, [K, D] each; ties to the smaller block; ascending. */
  best(asking: Float64Array, candidates: number, count: number): number[] {
    const means = this.#means;
    const width = asking.length;
    // The best so far, from the largest score to the smallest.
    const blocks: number[] = [];
    const scores: number[] = [];
    for (let block = 0, at = 0; block < candidates; block++, at += width) {
      // Four sums, so that an addition need not wait for the one before.
      let a = 0;
      let b = 0;
      let c = 0;
      let d = 0;
      let i = 0;
      for (; i + 4 <= width; i += 4) {
        a += asking[i] * means[at + i];
        b += asking[i + 1] * means[at + i + 1];
        c += asking[i + 2] * means[at + i + 2];
        d += asking[i + 3] * means[at + i + 3];
      }
      for (; i < width; i++) a += asking[i] * means[at + i];
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
    const copy = new BlockIndex(this.from, this.size, this.#shape);
    copy.#means = this.#means.slice();
    copy.#blocks = this.#blocks;
    return copy;
  }
}
