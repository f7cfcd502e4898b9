import { stateless, type Method } from "@longctx/core";
import type { Report, Seen } from "./choosing.ts";
import { keyHeadOf, type Shape } from "./dense-heads.ts";

/** Reads off a device's plans which tokens every query head sees, once what was chosen is in place of choices. */

interface Range {
  readonly from: number;
  readonly to: number;
}

/** Tokens chosen by each query, one list for all heads, for each key head, or for each query head. */
interface Rows {
  readonly first: number;
  readonly count: number;
  readonly heads: number;
  list(row: number, head: number): Int32Array;
}

interface View {
  readonly tokens: Range | Int32Array | Rows | object;
  readonly band: Range;
  readonly queries?: Range;
}

/** A method that changes nothing and reports what every query head sees in every layer. */
export function watch(report: Report, shape: Shape): Method {
  return {
    spec: "watch",
    axes: [],
    hook: {
      layers: () => true,
      create: () =>
        stateless({
          plan: (plan, { layer, first, count }) => {
            const { segments, gated } = plan as unknown as { segments: View[]; gated?: { segments: View[] } };
            for (let m = first; m < first + count; m++)
              for (let head = 0; head < shape.queryHeads; head++) {
                const seen: Seen = {
                  softmax: seenThrough(segments, m, head, shape),
                  gated: seenThrough(gated?.segments ?? [], m, head, shape),
                };
                report.add(layer, m, head, seen);
              }
            return plan;
          },
        }),
    },
  };
}

/** Returns the tokens that a query head sees, ascending. @throws Error where it sees one twice */
function seenThrough(segments: readonly View[], m: number, head: number, shape: Shape): number[] {
  const seen = segments
    .filter(({ queries }) => !queries || (queries.from <= m && m < queries.to))
    .flatMap(({ tokens, band }) =>
      listOf(tokens, m, head, shape).filter((n) => band.from <= m - n && m - n < band.to && n >= 0),
    )
    .sort((a, b) => a - b);
  const twice = seen.find((n, i) => n === seen[i + 1]);
  if (twice !== undefined) throw new Error(`Head ${head} of query ${m} sees token ${twice} twice`);
  return seen;
}

/** A segment's tokens up to m and beyond it as far as a range is finite. */
function listOf(tokens: View["tokens"], m: number, head: number, shape: Shape): number[] {
  if (tokens instanceof Int32Array) return [...tokens];
  if ("list" in tokens) {
    const row = m - tokens.first;
    if (row < 0 || row >= tokens.count) return [];
    const list = { 1: 0, [shape.keyHeads]: keyHeadOf(shape, head), [shape.queryHeads]: head }[tokens.heads];
    return [...tokens.list(row, tokens.heads === 1 ? 0 : list!)];
  }
  if ("from" in tokens) {
    const to = Math.min(tokens.to, m + 1);
    return Array.from({ length: Math.max(0, to - tokens.from) }, (_, i) => tokens.from + i);
  }
  throw new Error("A plan has a choice where what was chosen should be");
}
