import type { Session } from "longctx";

/** The middle value, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Milliseconds of each of `count` steps of decoding, one forward pass a step. One more comes before them, which puts what
 * another session left in the processor's caches out of the way.
 */
export async function stepTimes(session: Session, count: number): Promise<number[]> {
  const times: number[] = [];
  let last = performance.now();
  // The first token follows from logits that are there: no pass. The last one is not read.
  for await (const token of session.generate({ maxNew: count + 2, stopTokens: [] })) {
    void token;
    const now = performance.now();
    times.push(now - last);
    last = now;
  }
  return times.slice(2);
}
