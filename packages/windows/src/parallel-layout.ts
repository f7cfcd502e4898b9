import { among, askedBy, type ChunkContext, type PositionRule, type Segment, type TokenRange } from "@longctx/core";

/** How parallel windows lie in a text: shared tokens, one window behind another, then the task and what follows it. */
export interface ParallelLayout {
  /** The number of first tokens that every window begins with. */
  readonly shared: number;
  /** The number of tokens of each window, the shared ones left out. */
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
  // Windows without a query of this chunk get no segment, so that most plans are as short as the plain model's.
  const windowsOfQueries = windows.filter((window) => window.from < first + count && first < window.to);
  const parts: readonly { readonly tokens: TokenRange; readonly queries: TokenRange }[] = [
    { tokens: { from: 0, to: layout.shared }, queries: { from: 0, to: Infinity } },
    ...windowsOfQueries.map((window) => ({ tokens: window, queries: window })),
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

/**
 * Positions of every window follow those of the shared tokens; positions of the task follow those of the longest
 * window.
 */
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
