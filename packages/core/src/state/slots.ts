import { LongctxError } from "../common/errors.ts";
import type { RingLayout } from "../method/method.ts";

/** A run of slots: slots [from, to) hold consecutive tokens beginning with `token`. */
export interface SlotRun {
  readonly from: number;
  readonly to: number;
  readonly token: number;
}

/** What lanes ask of a map from tokens to slots. */
export interface TokenSlots {
  readonly layout: RingLayout;
  holds(token: number): boolean;
  /** Returns the slot of a token that is held. */
  slotOf(token: number): number;
  /**
   * Returns the slots of tokens [from, to) as few runs of contiguous slots, in text order; tokens that are not held are
   * left out.
   */
  runs(from: number, to: number): SlotRun[];
}

/**
 * The map from tokens to slots of one ring buffer. Pinned token n is in slot n; later tokens go round the other slots
 * and overwrite the oldest, so no token ever moves to another slot.
 */
export class SlotMap implements TokenSlots {
  readonly layout: RingLayout;
  /** The number of tokens read so far, which is the text index of the next token. */
  length = 0;
  /**
   * The number of tokens of the longest text so far; tokens that it overwrote stay lost after the text is truncated.
   */
  longest = 0;

  constructor(layout: RingLayout) {
    if (!Number.isInteger(layout.capacity) || layout.capacity < 1) {
      throw new LongctxError(
        "capacity",
        `A cache cannot have a capacity of ${layout.capacity} tokens; give a whole number of at least 1.`,
      );
    }
    if (!Number.isInteger(layout.pinned) || layout.pinned < 0 || layout.pinned > layout.capacity) {
      throw new LongctxError(
        "capacity",
        `A cache of ${layout.capacity} tokens cannot pin ${layout.pinned}; give a whole number from 0 to ${layout.capacity}.`,
      );
    }
    this.layout = layout;
  }

  get #ring(): number {
    return this.layout.capacity - this.layout.pinned;
  }

  slotOf(token: number): number {
    const { pinned } = this.layout;
    return token < pinned ? token : pinned + ((token - pinned) % this.#ring);
  }

  /** Returns the text index of the oldest token that the ring still holds, not counting the pinned tokens. */
  oldest(): number {
    const end = Math.max(this.length, this.longest);
    return Math.max(Math.min(this.layout.pinned, this.length), end - this.#ring);
  }

  holds(token: number): boolean {
    return token >= 0 && token < this.length && (token < this.layout.pinned || token >= this.oldest());
  }

  /**
   * Assigns slots to the next `count` tokens and returns them as runs.
   * @throws LongctxError "capacity" where they do not fit
   */
  append(count: number): SlotRun[] {
    const { capacity, pinned } = this.layout;
    const end = this.length + count;
    if (this.#ring === 0 && end > capacity) {
      throw new LongctxError(
        "capacity",
        `The text has ${end} tokens, but the cache holds ${capacity}. Give a larger capacity, a shorter text, or a method that bounds the cache.`,
      );
    }
    if (this.#ring > 0 && count > this.#ring + Math.max(0, pinned - this.length)) {
      throw new LongctxError(
        "capacity",
        `A chunk of ${count} tokens does not fit the ${this.#ring} moving slots of a cache of ${capacity}. Use a smaller chunk or a larger capacity.`,
      );
    }
    const first = this.length;
    this.length = end;
    this.longest = Math.max(this.longest, end);
    return this.runs(first, end);
  }

  /**
   * Returns the slots of tokens [from, to) as few runs of contiguous slots, in text order; evicted tokens are left out.
   */
  runs(from: number, to: number): SlotRun[] {
    const { pinned, capacity } = this.layout;
    const runs: SlotRun[] = [];
    const stop = Math.min(to, this.length);
    for (let token = Math.max(0, from); token < stop;) {
      if (token >= pinned && token < this.oldest()) token = this.oldest();
      if (token >= stop) break;
      const slot = this.slotOf(token);
      const room = token < pinned ? pinned - token : capacity - slot;
      const end = Math.min(stop, token + room);
      const last = runs.at(-1);
      // Two runs join where slots and tokens both continue, as pinned slots and the rest do before the ring has wrapped
      // around.
      const joins = last?.to === slot && last.token + (last.to - last.from) === token;
      if (joins) runs.pop();
      runs.push(joins ? { ...last, to: slot + (end - token) } : { from: slot, to: slot + (end - token), token });
      token = end;
    }
    return runs;
  }

  /**
   * Forgets all but the first `length` tokens.
   * @throws LongctxError "capacity" when later queries would see tokens that the ring buffer has evicted
   */
  truncate(length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > this.length) {
      throw new LongctxError(
        "argument",
        `Cannot truncate a cache of ${this.length} tokens to ${length}; give a whole number from 0 to ${this.length}.`,
      );
    }
    if (length < this.length && !this.reaches(length)) {
      throw new LongctxError(
        "capacity",
        `Cannot truncate to ${length}: the tokens before ${this.oldest()} were evicted. Fork the session before going past its window, or prefill again.`,
      );
    }
    this.length = length;
    if (length === 0) this.longest = 0; // nothing is left that the slots would have to hold
  }

  /** Returns whether the slots still hold what a text of `length` tokens needs to be continued. */
  reaches(length: number): boolean {
    const { pinned, reach } = this.layout;
    const oldest = this.oldest();
    return reach === undefined ? oldest <= pinned : length === 0 || oldest <= Math.max(pinned, length - reach);
  }

  fork(): SlotMap {
    const copy = new SlotMap(this.layout);
    copy.length = this.length;
    copy.longest = this.longest;
    return copy;
  }
}
