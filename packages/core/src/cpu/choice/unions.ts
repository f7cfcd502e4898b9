import type { Segment } from "../../method/plan.ts";
import { HIDDEN } from "../../state/lanes.ts";
import { seenTokens } from "./found.ts";
import { KnownRuns } from "./list-runs.ts";

/**
 * Tokens that some queries of a tile see in a key head through lists of their own: all of them are scored for all of these
 * queries, as one matrix product, and a mask hides from each what is not in its list.
 */
export interface Union {
  readonly tokens: Int32Array;
  /** 0 or −1e30, [rows, heads, tokens] with one head or each query head of the key head; null where all see all. */
  readonly mask: Float32Array | null;
  readonly maskHeads: number;
}

/** A segment's unions in each key head. */
export interface OwnLane {
  readonly segment: Segment;
  readonly unions: readonly Union[];
}

/** The queries [first, first + count) of a tile. */
interface Rows {
  readonly first: number;
  readonly count: number;
}

/**
 * onnxruntime's matrix product scores so many pairs of a query and a token in the time in which the WebAssembly kernels,
 * which read lists token by token, score one.
 */
const PRODUCT_IS_FASTER = 16;
/**
 * The mean run of consecutive tokens from which the union of lists is attended to by one masked matrix product; lists of
 * shorter runs are read token by token.
 */
const SHORTEST_RUN = 8;
/**
 * `areScattered` counts the runs of so many lists first, taken evenly from all; where their mean is below `SHORTEST_RUN`, it
 * gives up and leaves the others uncounted.
 */
const SOME_LISTS = 8;

/**
 * Divides segments with lists of single queries and heads: those whose lists have enough in common are attended to as
 * unions, a lane of each tile; the others stay lists.
 */
export function unionsOf(
  segments: readonly Segment[],
  tiles: readonly Rows[],
  { queryHeads, keyHeads }: { readonly queryHeads: number; readonly keyHeads: number },
): { readonly own: readonly (readonly OwnLane[])[]; readonly lists: readonly Segment[] } {
  const own: OwnLane[][] = tiles.map(() => []);
  const lists: Segment[] = [];
  const runs = new KnownRuns();
  for (const segment of segments) {
    const made = tiles.map((rows) =>
      Array.from({ length: keyHeads }, (_, head) =>
        unionOf(segment, rows, head, queryHeads / keyHeads, queryHeads, runs),
      ),
    );
    if (made.flat().every((union) => union !== null))
      made.forEach((unions, t) => {
        if (unions.some((union) => union!.tokens.length > 0)) own[t].push({ segment, unions: unions as Union[] });
      });
    else lists.push(segment);
  }
  return { own, lists };
}

/** Returns null where the lists have too little in common. */
function unionOf(
  segment: Segment,
  { first, count }: Rows,
  keyHead: number,
  group: number,
  queryHeads: number,
  known: KnownRuns,
): Union | null {
  const lists: Int32Array[] = [];
  for (let row = 0; row < count; row++)
    for (let i = 0; i < group; i++) lists.push(seenTokens(segment, first + row, keyHead * group + i, queryHeads));
  const distinct = [...new Set(lists)];
  if (distinct.length === 1) return { tokens: distinct[0], mask: null, maskHeads: 1 };
  if (areScattered(distinct, known)) return null;
  const entries = lists.reduce((sum, list) => sum + list.length, 0);
  const inDistinct = distinct.reduce((sum, list) => sum + list.length, 0);
  const runs = distinct.map((list) => known.of(list));
  if (inDistinct < SHORTEST_RUN * runs.reduce((sum, one) => sum + one.length / 2, 0)) return null;
  const tokens = unite(runs);
  if (tokens.length * lists.length > PRODUCT_IS_FASTER * entries) return null;
  const alike = lists.every((list, at) => list === lists[at - (at % group)]);
  return { tokens, mask: maskOf(alike ? lists.filter((_, at) => at % group === 0) : lists, tokens, known), maskHeads: alike ? 1 : group }; // prettier-ignore
}

/** Returns whether some of the lists, spread over all of them, have short runs. */
function areScattered(lists: readonly Int32Array[], known: KnownRuns): boolean {
  const step = Math.max(1, Math.floor(lists.length / SOME_LISTS));
  let [entries, runs] = [0, 0];
  for (let i = 0; i < lists.length; i += step) {
    entries += lists[i].length;
    runs += known.of(lists[i]).length / 2;
  }
  return entries < SHORTEST_RUN * runs;
}

/** The tokens that are in some run, ascending. */
function unite(lists: readonly Int32Array[]): Int32Array {
  let [from, to] = [Infinity, 0];
  for (const runs of lists)
    if (runs.length > 0) {
      from = Math.min(from, runs[0]);
      to = Math.max(to, runs[runs.length - 2] + runs[runs.length - 1]);
    }
  // How many runs begin at a token, less how many have ended before it.
  const changes = new Int32Array(Math.max(0, to - from) + 1);
  for (const runs of lists)
    for (let i = 0; i < runs.length; i += 2) {
      changes[runs[i] - from]++;
      changes[runs[i] - from + runs[i + 1]]--;
    }
  const tokens: number[] = [];
  for (let i = 0, open = 0; i < changes.length; i++) {
    open += changes[i];
    if (open > 0) tokens.push(from + i);
  }
  return Int32Array.from(tokens);
}

function maskOf(lists: readonly Int32Array[], tokens: Int32Array, known: KnownRuns): Float32Array {
  const mask = new Float32Array(lists.length * tokens.length).fill(HIDDEN);
  const columns = new Map<number, number>();
  tokens.forEach((token, column) => columns.set(token, column));
  lists.forEach((list, row) => {
    const runs = known.of(list);
    for (let i = 0; i < runs.length; i += 2) {
      // Tokens of a run stand side by side in the union too.
      const at = row * tokens.length + columns.get(runs[i])!;
      mask.fill(0, at, at + runs[i + 1]);
    }
  });
  return mask;
}
