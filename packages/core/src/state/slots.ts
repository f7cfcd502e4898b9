import { LongctxError } from "../common/errors.ts";

/** How a cache of fixed capacity places tokens: the first `pinned` stay, the others go round the remaining slots. */
export interface CacheLayout {
  readonly capacity: number;
  /** Tokens [0, pinned) are never evicted. Without eviction `pinned` is the capacity. */
  readonly pinned: number;
}

/** Slots [from, to) that hold consecutive tokens beginning with `token`. */
export interface SlotRun {
  readonly from: number;
  readonly to: number;
  readonly token: number;
}

/** Which token is in which slot. Token n < pinned is in slot n; later ones go round a ring, so nothing is ever moved. */
export class SlotMap {
  readonly layout: CacheLayout;
  /** Tokens seen so far; the next one has this text index. */
  length = 0;

  constructor(layout: CacheLayout) {
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

  /** The oldest token behind the pinned ones that is still held. */
  oldest(): number {
    return Math.max(Math.min(this.layout.pinned, this.length), this.length - this.#ring);
  }

  holds(token: number): boolean {
    return token >= 0 && token < this.length && (token < this.layout.pinned || token >= this.oldest());
  }

  /** Make room for `count` more tokens; the slots they go to. @throws LongctxError "capacity" */
  append(count: number): SlotRun[] {
    const { capacity, pinned } = this.layout;
    const end = this.length + count;
    if (this.#ring === 0 && end > capacity) {
      throw new LongctxError(
        "capacity",
        `The text has ${end} tokens, but the cache holds ${capacity}. Give a larger capacity, a shorter text, or a method that bounds the cache (streaming).`,
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
    return this.runs(first, end);
  }

  /** The slots of tokens [from, to), in order of the text, as few runs as possible. Tokens no longer held are left out. */
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
      const joins = last?.to === slot && last.token + (last.to - last.from) === token; // before the ring has gone round
      if (joins) runs.pop();
      runs.push(joins ? { ...last, to: slot + (end - token) } : { from: slot, to: slot + (end - token), token });
      token = end;
    }
    return runs;
  }

  /** Forget all but the first `length` tokens. @throws LongctxError "capacity" when tokens before it were evicted */
  truncate(length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > this.length) {
      throw new LongctxError(
        "argument",
        `Cannot truncate a cache of ${this.length} tokens to ${length}; give a whole number from 0 to ${this.length}.`,
      );
    }
    if (length < this.length && this.oldest() > this.layout.pinned) {
      throw new LongctxError(
        "capacity",
        `Cannot truncate to ${length}: the tokens before ${this.oldest()} were evicted. Fork the session before going past its window, or prefill again.`,
      );
    }
    this.length = length;
  }

  fork(): SlotMap {
    const copy = new SlotMap(this.layout);
    copy.length = this.length;
    return copy;
  }
}
