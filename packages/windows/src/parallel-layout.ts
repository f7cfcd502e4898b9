import { among, askedBy, type ChunkContext, type PositionRule, type Segment, type Interval } from "@longctx/core";

/**
 * The layout of a prompt in parallel windows: shared tokens, then one window after another, then the task and what
 * follows it.
 */
export interface ParallelLayout {
  /** The number of first tokens that all windows share. */
  readonly shared: number;
  /** The number of tokens in each window, without the shared tokens. */
  readonly widths: readonly number[];
}

/** Splits segments so that windows do not see each other and the task sees all windows. */
export function inParallel(
  segments: readonly Segment[],
  layout: ParallelLayout,
  { first, count }: ChunkContext,
): Segment[] {
  const windows = windowsOf(layout);
  const rule = positionRule(layout, windows);
  const end = windows[windows.length - 1].to;
  // Windows without a query in this chunk get no segment, so that most plans are as short as the plain model's.
  const windowsOfQueries = windows.filter((window) => window.from < first + count && first < window.to);
  const parts: readonly { readonly tokens: Interval; readonly queries: Interval }[] = [
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

function windowsOf({ shared, widths }: ParallelLayout): Interval[] {
  let from = shared;
  return widths.map((width) => ({ from, to: (from += width) }));
}

/**
 * Returns the position rule: every window's positions begin after the shared tokens, and the task's positions begin
 * after the longest window.
 */
function positionRule({ shared, widths }: ParallelLayout, windows: readonly Interval[]): PositionRule {
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
