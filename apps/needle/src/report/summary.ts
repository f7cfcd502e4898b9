import { holm, mcnemar, newcombePaired, wilson, type PairedCounts, type SampleRecord } from "@longctx/tasks";
import type { RunIdentity } from "../files/manifest.ts";
import { readerScores, type ReaderScore } from "./readers.ts";
import { needleShares, type NeedleShare } from "./retrieved.ts";

/** Right answers of a set of samples, with the 95 % Wilson interval. Samples without an answer count as wrong. */
export interface Score {
  readonly samples: number;
  readonly right: number;
  readonly errors: number;
  readonly accuracy: number | null;
  readonly low: number;
  readonly high: number;
  /** Mean ln p of the answer's first token. */
  readonly logprob_first: number | null;
}

export interface LengthScore extends Score {
  readonly method: string;
  readonly length: number;
}

export interface CellScore extends LengthScore {
  readonly depth: number;
}

/** A method against the baseline on the same prompts: difference of accuracies with Newcombe's interval, McNemar's exact p. */
export interface Comparison extends PairedCounts {
  readonly method: string;
  readonly baseline: string;
  /** null: all lengths together. */
  readonly length: number | null;
  readonly difference: number;
  readonly low: number;
  readonly high: number;
  readonly p: number;
  /** p corrected for the number of comparisons of its kind (Holm). */
  readonly p_holm: number;
}

export interface Summary {
  readonly v: 1;
  readonly run: RunIdentity;
  readonly planned: number;
  readonly finished: number;
  readonly errors: readonly {
    readonly id: string;
    readonly method: string;
    readonly length: number;
    readonly depth: number;
    readonly trial: number;
    readonly message: string;
  }[];
  readonly by_length: readonly LengthScore[];
  readonly cells: readonly CellScore[];
  readonly comparisons: readonly Comparison[];
  /** What was fetched of the needles, where samples were traced. */
  readonly retrieved?: readonly NeedleShare[];
  /** Where an arm is a reader. */
  readonly readers?: readonly ReaderScore[];
}

/** What the samples say; no times in it, so the same samples give the same bytes. */
export function summarise(run: RunIdentity, records: Iterable<SampleRecord>): Summary {
  const all = [...records];
  const cells = run.methods.flatMap((method) =>
    run.lengths.flatMap((length) => {
      const ofLength = all.filter((record) => record.method === method && record.target_len === length);
      return run.depths.map((depth) => ({
        method,
        length,
        depth,
        ...scoreOf(ofLength.filter((record) => record.depth_requested === depth)),
      }));
    }),
  );
  const byLength = run.methods.flatMap((method) =>
    run.lengths.map((length) => ({
      method,
      length,
      ...scoreOf(all.filter((record) => record.method === method && record.target_len === length)),
    })),
  );
  const retrieved = needleShares(run, all);
  const readers = readerScores(run, all);
  const failed = all.filter((record) => record.status === "error");
  return {
    v: 1,
    run,
    planned: run.methods.length * run.lengths.length * run.depths.length * run.trials,
    finished: all.length,
    errors: failed.map(({ id, method, target_len: length, depth_requested: depth, trial, error }) => ({
      id,
      method,
      length,
      depth,
      trial,
      message: error?.message ?? "",
    })),
    by_length: byLength,
    cells,
    comparisons: [...compare(run, all, [null]), ...compare(run, all, run.lengths)],
    ...(retrieved.length > 0 && { retrieved }),
    ...(readers.length > 0 && { readers }),
  };
}

function scoreOf(records: readonly SampleRecord[]): Score {
  const samples = records.length;
  const right = records.filter((record) => record.correct).length;
  const logprobs = records.flatMap((record) => (record.logprob_first === null ? [] : [record.logprob_first]));
  return {
    samples,
    right,
    errors: records.filter((record) => record.status === "error").length,
    accuracy: samples > 0 ? decimals(right / samples) : null,
    ...rounded(wilson(right, samples)),
    logprob_first:
      logprobs.length > 0 ? decimals(logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length) : null,
  };
}

/** Every method against the baseline at each of the lengths; the comparisons made here are one family. */
function compare(
  run: RunIdentity,
  records: readonly SampleRecord[],
  lengths: readonly (number | null)[],
): Comparison[] {
  const others = run.methods.filter((method) => method !== run.baseline);
  const found = lengths.flatMap((length) => {
    const there = records.filter((record) => length === null || record.target_len === length);
    const base = new Map(
      there.filter((record) => record.method === run.baseline).map((record) => [record.prompt_id, record.correct]),
    );
    return others.map((method) => {
      const counts = { both: 0, onlyFirst: 0, onlySecond: 0, neither: 0 };
      for (const record of there) {
        const baseline = base.get(record.prompt_id);
        if (record.method !== method || baseline === undefined) continue;
        counts[record.correct ? (baseline ? "both" : "onlyFirst") : baseline ? "onlySecond" : "neither"]++;
      }
      const { difference, ...interval } = newcombePaired(counts);
      return {
        method,
        baseline: run.baseline,
        length,
        ...counts,
        difference: decimals(difference),
        ...rounded(interval),
        p: mcnemar(counts),
      };
    });
  });
  const corrected = holm(found.map(({ p }) => p));
  return found.map((comparison, index) => ({
    ...comparison,
    p: significant(comparison.p),
    p_holm: significant(corrected[index]),
  }));
}

function rounded({ low, high }: { low: number; high: number }): { low: number; high: number } {
  return { low: decimals(low), high: decimals(high) };
}

function decimals(value: number): number {
  return Number(value.toFixed(4)) + 0;
}

function significant(p: number): number {
  return Number(p.toPrecision(3));
}
