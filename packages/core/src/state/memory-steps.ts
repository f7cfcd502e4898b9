import { LongctxError } from "../common/errors.ts";
import type { MemoryBranch } from "../method/plan.ts";

/**
 * One step of a chunk's way through a compressive memory: segments of the text that are written, then queries that
 * read.
 */
export interface MemoryStep {
  /**
   * The segments of the text [from, to), counted from its beginning, that are written one by one before the queries
   * read.
   */
  readonly write: { readonly from: number; readonly to: number };
  /**
   * The rows [from, to) of the chunk whose queries read the memory in this step; all belong to one segment of the text.
   */
  readonly rows: { readonly from: number; readonly to: number };
}

/**
 * Splits queries [first, first + count) into steps through a memory that already holds the first `written` segments of
 * the text. A segment is written when the first token after it is read, so queries of segment k read the segments
 * before k.
 */
export function memorySteps(
  { segment }: Pick<MemoryBranch, "segment">,
  written: number,
  first: number,
  count: number,
): MemoryStep[] {
  const steps: MemoryStep[] = [];
  for (let row = 0, done = written; row < count;) {
    const current = Math.floor((first + row) / segment);
    const to = Math.min(count, (current + 1) * segment - first);
    steps.push({ write: { from: done, to: Math.max(done, current) }, rows: { from: row, to } });
    done = Math.max(done, current);
    row = to;
  }
  return steps;
}

/**
 * Checks that a text can be truncated to `length` tokens; a text of 0 tokens has an empty memory and always can.
 * @throws LongctxError "capacity" where the compressive memory has taken in tokens after `length`, since it cannot
 * forget them
 */
export function checkForgetting(written: number, segment: number, length: number): void {
  if (length > 0 && length < written * segment)
    throw new LongctxError(
      "capacity",
      `Cannot truncate to ${length}: the first ${written * segment} tokens are written to the compressive memory, which cannot forget some of them. Fork the session before going on, truncate to at least ${written * segment}, or prefill again.`,
    );
}
