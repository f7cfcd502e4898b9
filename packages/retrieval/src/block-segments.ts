import {
  among,
  askedBy,
  constantPosition,
  within,
  type ChosenTokens,
  type Interval,
  type Method,
  type PositionRule,
  type Segment,
} from "@longctx/core";

/** Where blocks of tokens lie, and which tokens are visible without being chosen; all in tokens. */
export interface BlockLayout {
  readonly size: number;
  readonly local: number;
  readonly sinks: number;
}

/** The blocks that queries see: tokens of those whose rank in the order of the text is in `ranks`; null for no token. */
export interface TakenBlocks {
  /** The number of blocks that are taken. */
  readonly count: number;
  tokens(ranks: Interval): ChosenTokens | Int32Array;
}

/** Queries [from, to) that have the same candidates. */
export type Group = Interval;

/** Splits queries [first, first + count) into their groups, which end at multiples of `exec` tokens in the text. */
export function groupsOf(first: number, count: number, exec: number): Group[] {
  const groups: Group[] = [];
  for (let from = first; from < first + count;) {
    const to = Math.min(first + count, (Math.floor(from / exec) + 1) * exec);
    groups.push({ from, to });
    from = to;
  }
  return groups;
}

/**
 * Returns which tokens a layer's queries see without a choice: the first ones, and, before a chunk, the local band and the
 * remainder, which is less than a block; `blocks` more are taken. In a layer with a sliding window of its own, the window.
 */
export function nearTokens({ size, local, sinks }: BlockLayout, blocks: number): NonNullable<Method["near"]> {
  return ({ config, layer }) => {
    const window = config.slidingWindows[layer];
    return { first: window ? 0 : sinks, last: window ?? local + size, block: size, blocks: window ? 0 : blocks };
  };
}

/** Returns how many blocks have all of their tokens at a distance of at least `local` from a query. */
export function candidatesAt(query: number, { size, local, sinks }: BlockLayout): number {
  return Math.max(0, Math.floor((query - local + 1 - sinks) / size));
}

/**
 * Returns what a group of queries sees when all tokens outside of the local band are at the same distance, local − 1:
 * the local band, the first tokens, the taken blocks, and the remainder (tokens behind all of the `candidates` blocks).
 */
export function atOneDistance(
  segment: Segment,
  candidates: number,
  { size, local, sinks }: BlockLayout,
  taken: TakenBlocks,
): Segment[] {
  const near = within(segment, { from: -Infinity, to: local });
  const far = farOf(segment, local);
  if (!far || candidates === 0) return present([near, far]);
  const chosen = taken.count > 0 ? { ...far, tokens: taken.tokens({ from: 0, to: taken.count }) } : null;
  const rest = among(far, { from: sinks + size * candidates, to: Infinity });
  return present([near, among(far, { from: 0, to: sinks }), chosen, rest]);
}

/** Returns tokens outside of the local band, all at the distance local − 1. */
export function farOf(segment: Segment, local: number): Segment | null {
  return within(
    { ...segment, queryPosition: constantPosition(local - 1), keyPosition: constantPosition(0) },
    { from: local, to: Infinity },
  );
}

/**
 * Returns what a group of queries sees when visible tokens have consecutive positions, without gaps for hidden tokens:
 * keys of a taken block get their offset in the block, and queries are moved to meet each block at the right distance.
 */
export function inOrder(
  segment: Segment,
  candidates: number,
  { size, sinks }: BlockLayout,
  { count, tokens }: TakenBlocks,
): Segment[] {
  if (candidates === 0) return [segment];
  const rest = sinks + size * candidates; // the first token behind all candidates
  const old = among({ ...segment, queryPosition: backBy(rest - sinks - count * size) }, { from: 0, to: sinks });
  const chosen = Array.from({ length: count }, (_, rank): Segment => ({
    ...segment,
    // The block of this rank begins at `rest − (count − rank) · size` when visible tokens have consecutive positions.
    queryPosition: backBy(rest - (count - rank) * size),
    keyPosition: offsetIn({ size, sinks }),
    tokens: tokens({ from: rank, to: rank + 1 }),
  }));
  return present([old, ...chosen, among(segment, { from: rest, to: Infinity })]);
}

/** Returns the rule that puts a key at its offset in its block. */
export function offsetIn({ size, sinks }: Pick<BlockLayout, "size" | "sinks">): PositionRule {
  return { id: `(n−${sinks}) mod ${size}`, at: (token) => (token - sinks) % size };
}

/** Leaves segments to the queries of a group; `alone` says that the chunk has no other group. */
export function ofGroup(segments: readonly Segment[], group: Group, alone: boolean): Segment[] {
  return alone ? [...segments] : present(segments.map((segment) => askedBy(segment, group)));
}

export function present(segments: readonly (Segment | null)[]): Segment[] {
  return segments.filter((segment) => segment !== null);
}

/** Returns the rule that puts a query `tokens` positions before its index in the text. */
function backBy(tokens: number): PositionRule {
  return { id: tokens === 0 ? "text" : `m−${tokens}`, at: (query) => query - tokens };
}
