import type { NearTokens, RingLayout } from "../../method/method.ts";
import { ChosenRows, intersect, type AttentionPlan, type Interval, type Segment } from "../../method/plan.ts";
import type { SlotMap, SlotRun, TokenSlots } from "../../state/slots.ts";

/** The blocks that a segment reads and that are not all among the near tokens. */
export interface ColdSegment {
  readonly segment: Segment;
  readonly blocks: readonly number[];
}

/** Returns for each segment of a plan the blocks of old tokens that queries [first, first + count) may see. */
export function coldSegments(
  plan: AttentionPlan,
  slots: SlotMap,
  near: NearTokens,
  first: number,
  count: number,
): ColdSegment[] {
  const cold = coldTokens(slots);
  if (cold.from >= cold.to) return [];
  const all = plan.gated ? [...plan.segments, ...plan.gated.segments] : plan.segments;
  return all.flatMap((segment): ColdSegment[] => {
    const chunk = { from: first, to: first + count };
    const queries = segment.queries ? intersect(segment.queries, chunk) : chunk;
    const { band } = segment;
    const seen = intersect(cold, { from: queries.from - band.to + 1, to: queries.to - band.from });
    if (queries.from >= queries.to || seen.from >= seen.to) return [];
    const blocks = blocksOf(segment, seen, near);
    return blocks.length > 0 ? [{ segment, blocks }] : [];
  });
}

/** Returns the tokens that are neither pinned nor among the last ones of a ring. */
export function coldTokens(slots: SlotMap): Interval {
  return { from: slots.layout.pinned, to: slots.oldest() };
}

/** Returns the number of the block that a token belongs to. */
export function blockOf(token: number, { first, block }: NearTokens): number {
  return Math.floor((token - first) / block);
}

function blocksOf({ tokens }: Segment, seen: Interval, near: NearTokens): number[] {
  const blocks = new Set<number>();
  const add = (list: Int32Array) => {
    for (const token of list) if (token >= seen.from && token < seen.to) blocks.add(blockOf(token, near));
  };
  if (tokens instanceof Int32Array) add(tokens);
  else if (tokens instanceof ChosenRows) {
    for (let row = 0; row < tokens.count; row++)
      for (let head = 0; head < tokens.heads; head++) add(tokens.list(row, head));
  } else if (!("choice" in tokens)) {
    const { from, to } = intersect(tokens, seen);
    if (from < to) for (let block = blockOf(from, near); block <= blockOf(to - 1, near); block++) blocks.add(block);
  }
  return [...blocks];
}

/** Where lanes find tokens: near ones in the slots of the ring, old ones in the places behind it. */
export class ColdSlots implements TokenSlots {
  readonly layout: RingLayout;
  readonly #slots: SlotMap;
  readonly #near: NearTokens;
  readonly #placeOf: (block: number) => number | undefined;
  /** Tokens [from, to) of the block that was asked for last, from this slot on; lists name a block's tokens in a row. */
  #from = 0;
  #to = 0;
  #slot = 0;

  constructor(slots: SlotMap, near: NearTokens, placeOf: (block: number) => number | undefined) {
    this.layout = slots.layout;
    this.#slots = slots;
    this.#near = near;
    this.#placeOf = placeOf;
  }

  holds(token: number): boolean {
    return (token >= this.#from && token < this.#to) || this.#slots.holds(token) || this.#placed(token) !== null;
  }

  slotOf(token: number): number {
    if (token >= this.#from && token < this.#to) return this.#slot + token - this.#from;
    return this.#slots.holds(token) ? this.#slots.slotOf(token) : this.#placed(token)!;
  }

  runs(from: number, to: number): SlotRun[] {
    const { pinned } = this.layout;
    const cold = intersect({ from, to }, coldTokens(this.#slots));
    if (cold.from >= cold.to) return this.#slots.runs(from, to);
    const runs = this.#slots.runs(from, Math.min(to, pinned));
    const { first, block: size } = this.#near;
    for (let token = cold.from; token < cold.to;) {
      const end = Math.min(cold.to, first + (blockOf(token, this.#near) + 1) * size);
      const slot = this.#placed(token);
      const last = runs.at(-1);
      if (slot !== null) {
        const joins = last?.to === slot && last.token + (last.to - last.from) === token;
        if (joins) runs.pop();
        runs.push(joins ? { ...last, to: slot + (end - token) } : { from: slot, to: slot + (end - token), token });
      }
      token = end;
    }
    return [...runs, ...this.#slots.runs(cold.to, to)];
  }

  /**
   * Returns the slot of an old token, or null where no place of the buffers holds its block. It also remembers where the whole
   * block lies, because the lanes ask for the tokens of a list one after another and the next is mostly of the same block.
   */
  #placed(token: number): number | null {
    const cold = coldTokens(this.#slots);
    if (token < cold.from || token >= cold.to) return null;
    const { first, block: size } = this.#near;
    const block = blockOf(token, this.#near);
    const place = this.#placeOf(block);
    if (place === undefined) return null;
    const begin = first + block * size;
    const slot = this.layout.capacity + place * size;
    this.#from = Math.max(begin, cold.from);
    this.#to = Math.min(begin + size, cold.to);
    this.#slot = slot + this.#from - begin;
    return slot + token - begin;
  }
}
