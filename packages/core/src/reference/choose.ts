import { bestBlocks, candidatesOf, ChosenRows, isShared, type Choice, type Representative } from "../method/plan.ts";
import { rotate, type HeadShape } from "./dense-attention.ts";
import { cosine, dot } from "./dense.ts";
import type { AttentionMass } from "./mass.ts";

/** A chunk of queries [T, H, D] without rotation, the first of which has the text index `first`, and what they choose from. */
export interface AskingRows {
  readonly layer: number;
  readonly first: number;
  readonly queries: Float64Array;
  /** Returns keys [n, K, D] of tokens [from, to) without rotation. */
  readonly keys: (from: number, to: number) => Float64Array;
  readonly mass: AttentionMass;
}

/** What represents one block in a key head: one row for a mean; the least and the largest of each channel for bounds. */
type BlockRows = readonly Float64Array[];

/**
 * Returns what a choice takes: the ascending blocks that all queries and heads share, or else a list of blocks for each
 * query and for each head, key head or all heads.
 */
export function choose(choice: Choice, shape: HeadShape, rows: AskingRows): number[] | ChosenRows {
  const { queryHeads, keyHeads, headSize: D } = shape;
  const { first, queries, layer } = rows;
  const { asking, each, share = "heads", askers } = choice;
  const size = queryHeads * D;
  const count = queries.length / size;
  const heads = { heads: 1, group: keyHeads, none: queryHeads }[share];
  const blocks = representatives(choice, shape, rows);
  const scoreOf = choice.scales ? cosineOf(choice.scales[layer]) : product;
  const answers = (raw: Float64Array, query: number): Int32Array[] => {
    const turned = raw.slice();
    rotate(turned, 0, queryHeads, D, choice.table, choice.queryPosition.at(query));
    const candidates = candidatesOf(choice, query);
    return Array.from({ length: heads }, (_, list) => {
      const scores = Array.from({ length: candidates }, (_block, block) => {
        let score = 0;
        for (let h = 0; h < queryHeads; h++) {
          if (Math.floor((h * heads) / queryHeads) !== list || (askers && !askers.includes(h))) continue;
          score += scoreOf(
            turned.subarray(h * D, (h + 1) * D),
            blocks(block, Math.floor((h * keyHeads) / queryHeads)),
            h,
          );
        }
        return score;
      });
      return Int32Array.from(bestBlocks(scores, Math.min(choice.count, candidates)));
    });
  };
  const own = { from: Math.max(asking.from, first), to: Math.min(asking.to, first + count) };
  const row = (query: number) => queries.subarray((query - first) * size, (query - first + 1) * size);
  if (each) {
    const lists = Array.from({ length: own.to - own.from }, (_, i) => answers(row(own.from + i), own.from + i));
    return new ChosenRows(own.from, own.to - own.from, heads, lists.flat());
  }
  const asked = new Float64Array(size);
  for (let query = own.from; query < own.to; query++)
    row(query).forEach((value, i) => (asked[i] += value / (own.to - own.from)));
  const answer = answers(asked, asking.from);
  if (isShared(choice)) return Array.from(answer[0]);
  const lists = Array.from({ length: own.to - own.from }, () => answer);
  return new ChosenRows(own.from, own.to - own.from, heads, lists.flat());
}

/** Returns a function to what represents a block in a key head, computed once for each. */
function representatives(
  { from, size, table, keyPosition, representative = { kind: "mean" } }: Choice,
  { keyHeads, headSize: D }: HeadShape,
  { keys, mass }: AskingRows,
): (block: number, keyHead: number) => BlockRows {
  const known: BlockRows[][] = [];
  return (block, keyHead) => {
    known[block] ??= (() => {
      const begin = from + block * size;
      const rotated = keys(begin, begin + size).slice();
      for (let i = 0; i < size; i++) rotate(rotated, i * keyHeads * D, keyHeads, D, table, keyPosition.at(begin + i));
      return Array.from({ length: keyHeads }, (_, head) => {
        const ofHead = Array.from({ length: size }, (_row, i) =>
          rotated.subarray((i * keyHeads + head) * D, (i * keyHeads + head + 1) * D),
        );
        return represent(representative, ofHead, (i) => mass.of(begin + i, head));
      });
    })();
    return known[block][keyHead];
  };
}

function represent(by: Representative, keys: readonly Float64Array[], massOf: (row: number) => number): BlockRows {
  if (by.kind === "mean") return [mean(keys)];
  if (by.kind === "bounds")
    return [
      keys.reduce((a, b) => a.map((x, i) => Math.min(x, b[i]))),
      keys.reduce((a, b) => a.map((x, i) => Math.max(x, b[i]))),
    ];
  const order = keys.map((_, row) => row).sort((a, b) => massOf(b) - massOf(a) || a - b);
  return [mean(order.slice(0, by.tokens).map((row) => keys[row]))];
}

function mean(rows: readonly Float64Array[]): Float64Array {
  const sum = new Float64Array(rows[0].length);
  for (const row of rows) row.forEach((value, i) => (sum[i] += value / rows.length));
  return sum;
}

/** q · k, or the sum over channels of the larger of q · least and q · largest. */
function product(q: Float64Array, rows: BlockRows): number {
  if (rows.length === 1) return dot(q, rows[0]);
  return q.reduce((sum, value, i) => sum + Math.max(value * rows[0][i], value * rows[1][i]), 0);
}

function cosineOf(scales: Float32Array): (q: Float64Array, rows: BlockRows, head: number) => number {
  return (q, rows, head) => scales[head] * cosine(q, rows[0]);
}
