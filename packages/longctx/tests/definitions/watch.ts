import { ChosenRows, stateless, type Method, type Segment } from "@longctx/core";
import type { Report } from "./choosing.ts";
import type { Shape } from "./dense-heads.ts";

/** A method that changes nothing and reports what every query head sees in every layer, once what was chosen is in place. */
export function watch(report: Report, { queryHeads }: Pick<Shape, "queryHeads">): Method {
  return {
    spec: "watch",
    axes: [],
    hook: {
      layers: () => true,
      create: () =>
        stateless({
          plan: (plan, { layer, first, count }) => {
            for (let m = first; m < first + count; m++)
              for (let head = 0; head < queryHeads; head++)
                report.add(layer, m, head, {
                  softmax: seenThrough(plan.segments, m, head, queryHeads),
                  gated: seenThrough(plan.gated?.segments ?? [], m, head, queryHeads),
                });
            return plan;
          },
        }),
    },
  };
}

/** Returns the tokens that a query head sees, ascending. @throws Error where it sees one twice */
function seenThrough(segments: readonly Segment[], m: number, head: number, queryHeads: number): number[] {
  const seen = segments
    .filter(({ queries }) => !queries || (queries.from <= m && m < queries.to))
    .flatMap(({ tokens, band }) =>
      listOf(tokens, m, head, queryHeads).filter((n) => band.from <= m - n && m - n < band.to),
    )
    .sort((a, b) => a - b);
  const twice = seen.find((n, i) => n === seen[i + 1]);
  if (twice !== undefined) throw new Error(`Head ${head} of query ${m} sees token ${twice} twice`);
  return seen;
}

/** The tokens of a segment, those after m left out. */
function listOf(tokens: Segment["tokens"], m: number, head: number, queryHeads: number): number[] {
  if (tokens instanceof Int32Array) return [...tokens];
  if (tokens instanceof ChosenRows) {
    const row = m - tokens.first;
    if (row < 0 || row >= tokens.count) return [];
    const perList = queryHeads / tokens.heads;
    if (!Number.isInteger(perList)) throw new Error(`${tokens.heads} lists for ${queryHeads} query heads`);
    return [...tokens.list(row, Math.floor(head / perList))];
  }
  if ("choice" in tokens) throw new Error(`Choice ${tokens.choice.id} is still to be made`);
  const to = Math.min(tokens.to, m + 1);
  return Array.from({ length: Math.max(0, to - tokens.from) }, (_, i) => tokens.from + i);
}
