import type { Interval } from "../../method/plan.ts";

/** The places of a buffer behind the slots of its ring, each of which takes a block of old tokens. */
export interface Places {
  /** The slot at which place 0 begins. */
  readonly slot: number;
  readonly count: number;
  /** The number of tokens in a block. */
  readonly block: number;
}

/** The memory that onnxruntime reads, and the memory that kernels on several threads read. */
export type Side = "ordinary" | "shared";

const NONE = -1;

/** The blocks that the places of one buffer hold in ordinary and in shared memory. */
export class PlacedBlocks {
  readonly #places: Places;
  readonly #held: Readonly<Record<Side, Int32Array>>;
  /** Whether a side may hold a block that the other side lacks. */
  readonly #ahead: Record<Side, boolean> = { ordinary: false, shared: false };

  constructor(places: Places) {
    this.#places = places;
    const none = () => new Int32Array(places.count).fill(NONE);
    this.#held = { ordinary: none(), shared: none() };
  }

  /** Returns whether the place holds the block on either side. */
  holds(place: number, block: number): boolean {
    return this.#held.ordinary[place] === block || this.#held.shared[place] === block;
  }

  slotsOf(place: number): Interval {
    const { slot, block } = this.#places;
    return { from: slot + place * block, to: slot + (place + 1) * block };
  }

  /** Declares that the place holds the block on this side, and no longer what it held on the other. */
  wrote(place: number, block: number, side: Side): void {
    this.#held[otherOf(side)][place] = NONE;
    this.#held[side][place] = block;
    this.#ahead[side] = true;
  }

  /** Returns the slots of blocks that `side` holds and the other side lacks, whose rows the caller copies there. */
  moveFrom(side: Side): readonly Interval[] {
    if (!this.#ahead[side]) return NO_SLOTS;
    this.#ahead[side] = false;
    const [from, to] = [this.#held[side], this.#held[otherOf(side)]];
    const moved: Interval[] = [];
    for (let place = 0; place < from.length; place++) {
      if (from[place] === NONE || from[place] === to[place]) continue;
      to[place] = from[place];
      moved.push(this.slotsOf(place));
    }
    return moved;
  }

  /** Declares that a side's memory is gone. */
  lose(side: Side): void {
    this.#held[side].fill(NONE);
    this.#ahead[side] = false;
    this.#ahead[otherOf(side)] = true;
  }

  /** Forgets block `from` and all later blocks on both sides. */
  forget(from: number): void {
    for (const held of Object.values(this.#held))
      for (let place = 0; place < held.length; place++) if (held[place] >= from) held[place] = NONE;
  }
}

const NO_SLOTS: readonly Interval[] = [];

function otherOf(side: Side): Side {
  return side === "ordinary" ? "shared" : "ordinary";
}
