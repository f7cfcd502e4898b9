import type { SampleRecord } from "@longctx/tasks";
import type { RunIdentity } from "../files/manifest.ts";
import { lengthName } from "./names.ts";

/** What became of the asked needle in a reader's samples of one length. */
export interface ReaderScore {
  readonly method: string;
  readonly length: number;
  /** Samples that were answered. */
  readonly samples: number;
  /** Samples in which the needle was carried to the end of the text, and the right answers among them. */
  readonly kept: number;
  readonly kept_right: number;
  /** For each sample that lost it, after how many chunks it was lost, and how many there were. */
  readonly lost: readonly (readonly [chunks: number, of: number])[];
  /** The smallest ratio of the needle's score to the best that was dropped. */
  readonly margin: number | null;
}

/** One entry for each reader and length with samples. */
export function readerScores({ methods, lengths }: RunIdentity, records: readonly SampleRecord[]): ReaderScore[] {
  return methods.flatMap((method) =>
    lengths.flatMap((length): ReaderScore[] => {
      const ofLength = records.filter((record) => record.method === method && record.target_len === length);
      const read = ofLength.flatMap(({ reader, correct }) => (reader ? [{ ...reader, correct }] : []));
      if (read.length === 0) return [];
      const kept = read.filter(({ needle }) => needle.lost === null);
      const margins = read.flatMap(({ needle }) => needle.margin ?? []);
      return [
        {
          method,
          length,
          samples: read.length,
          kept: kept.length,
          kept_right: kept.filter(({ correct }) => correct).length,
          lost: read.flatMap(({ needle: { lost }, chunk_ends: ends }) =>
            lost === null ? [] : [[lost + 1, ends.length] as const],
          ),
          margin: margins.length > 0 ? Math.min(...margins) : null,
        },
      ];
    }),
  );
}

/** A line for each reader and length. */
export function readerLines(scores: readonly ReaderScore[]): string[] {
  return scores.map(({ method, length, samples, kept, kept_right: right, lost, margin }) => {
    const parts = [`carried to the end in ${kept} of ${samples}, of these ${right} answered right`];
    if (lost.length > 0) parts.push(`lost after chunk ${lost.map(([chunks, of]) => `${chunks} of ${of}`).join(", ")}`);
    if (margin !== null) parts.push(`at least ${margin} times the best sentence that was dropped`);
    return `${method} at ${lengthName(length)}: ${parts.join("; ")}`;
  });
}
