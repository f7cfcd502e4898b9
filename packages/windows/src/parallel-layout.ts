import { among, askedBy, type ChunkContext, type PositionRule, type Segment, type TokenRange } from "@longctx/core";

/** Where parallel windows lie in a text: shared tokens, the windows one behind another, the task and all that follows. */
export interface ParallelLayout {
  /** First tokens, which every window begins with. */
  readonly shared: number;
  /** Tokens of each window behind the shared ones. */
  readonly widths: readonly number[];
}

/** Splits segments so that windows do not see one another and the task sees all of them. */
export function inParallel(
  segments: readonly Segment[],
  layout: ParallelLayout,
  { first, count }: ChunkContext,
): Segment[] {
  const windows = windowsOf(layout);
  const rule = positionRule(layout, windows);
  const end = windows[windows.length - 1].to;
  // Windows that no query of the chunk is in are left out, so a plan is as short as a plain one nearly everywhere.
  const asking = windows.filter((window) => window.from < first + count && first < window.to);
  const parts: readonly { readonly tokens: TokenRange; readonly queries: TokenRange }[] = [
    { tokens: { from: 0, to: layout.shared }, queries: { from: 0, to: Infinity } },
    ...asking.map((window) => ({ tokens: window, queries: window })),
    ...(first + count > end
      ? [{ tokens: { from: layout.shared, to: Infinity }, queries: { from: end, to: Infinity } }]
      : []),
  ];
  return segments
    .flatMap((segment) =>
      parts.map(({ tokens, queries }) => {
        const seen = among({ ...segment, queryPosition: rule, keyPosition: rule }, tokens);
        return seen && askedBy(seen, queries);
      }),
    )
    .filter((segment) => segment !== null);
}

function windowsOf({ shared, widths }: ParallelLayout): TokenRange[] {
  let from = shared;
  return widths.map((width) => ({ from, to: (from += width) }));
}

/** Positions go on behind the shared tokens in every window, and behind the longest window in the task. */
function positionRule({ shared, widths }: ParallelLayout, windows: readonly TokenRange[]): PositionRule {
  const end = windows[windows.length - 1].to;
  const task = shared + Math.max(...widths);
  return {
    id: `parallel(${[shared, ...widths].join(",")})`,
    at: (token) => {
      if (token < shared) return token;
      if (token >= end) return task + token - end;
      return shared + token - windows.find(({ to }) => token < to)!.from;
    },
  };
}
